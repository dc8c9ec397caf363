"""The two elementary inverse estimates: the one that a root solver starts from, and the transpose
of another.
"""

from dataclasses import dataclass

from torch import Tensor

from shine_exp.types import InverseEstimate


@dataclass(frozen=True)
class Identity:
    """H₀ = I, the inverse Jacobian of g = id − f for a constant f.

    Both products are v itself, not a copy.
    """

    def matvec(self, v: Tensor) -> Tensor:
        return v

    def rmatvec(self, v: Tensor) -> Tensor:
        return v


@dataclass(frozen=True)
class Transposed:
    """Hᵀ in place of H: the forward solver's estimate as a start for the adjoint system Jᵀu = r."""

    inverse: InverseEstimate

    def matvec(self, v: Tensor) -> Tensor:
        return self.inverse.rmatvec(v)

    def rmatvec(self, v: Tensor) -> Tensor:
        return self.inverse.matvec(v)
