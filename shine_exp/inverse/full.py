"""The adjoint system solved to the tolerance of the outer step, whatever its shape."""

from dataclasses import dataclass, replace

from shine_exp.errors import UnsupportedSystem
from shine_exp.inverse.conjugate_gradient import ConjugateGradient
from shine_exp.types import Adjoint, AdjointSystem


@dataclass(frozen=True)
class Full:
    """Solve Jᵀu = r to ‖Jᵀu − r‖ ≤ factor · tol ‖r‖ from `system.start`, else 0: by CG where J is symmetric.

    A factor below 1 makes the backward error negligible beside the forward one. Raises `UnsupportedSystem` for a
    system that is not symmetric.
    """

    factor: float = 0.1
    max_steps: int = 1000

    needs_symmetry = True

    def __call__(self, system: AdjointSystem) -> Adjoint:
        if not system.symmetric:
            raise UnsupportedSystem("full needs a symmetric system (problem=logreg or nls)")
        tighter = replace(system, tol=self.factor * system.tol)
        return ConjugateGradient(max_steps=self.max_steps)(tighter)
