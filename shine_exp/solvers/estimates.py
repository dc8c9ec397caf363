"""The two elementary inverse estimates: H₀ = I, and the transpose of another estimate."""

from dataclasses import dataclass

from torch import Tensor

from shine_exp.types import InverseEstimate


@dataclass(frozen=True)
class Identity:
    """H₀ = I, the inverse Jacobian of g = id − f for a constant f.

    Both products return v itself, not a copy.
    """

    def matvec(self, v: Tensor) -> Tensor:
        return v

    def rmatvec(self, v: Tensor) -> Tensor:
        return v


@dataclass(frozen=True)
class Transposed:
    """Hᵀ in place of H: a forward estimate H ≈ J⁻¹ made ready for the adjoint system Jᵀu = r."""

    estimate: InverseEstimate

    def matvec(self, v: Tensor) -> Tensor:
        return self.estimate.rmatvec(v)

    def rmatvec(self, v: Tensor) -> Tensor:
        return self.estimate.matvec(v)
