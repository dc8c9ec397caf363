"""The adjoint system solved by the iteration that suits it."""

from dataclasses import dataclass, replace

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from shine_exp.errors import UnsupportedSystem
from shine_exp.inverse.broyden import BroydenSteps
from shine_exp.inverse.conjugate_gradient import ConjugateGradient
from shine_exp.types import Adjoint, AdjointSystem


@dataclass(frozen=True)
class Full:
    """Solve Jᵀu = r to ‖Jᵀu − r‖ ≤ factor · tol ‖r‖: by CG where J is symmetric, else by Broyden's
    method.

    A factor below 1 makes the backward error negligible beside the forward one. With a low
    `max_steps` it is the paper's "limited backward". `limit_grows` is as in `ConjugateGradient`,
    for where J is symmetric, `memory` as in `BroydenSteps`, for elsewhere.
    """

    factor: PositiveFloat = 0.1
    max_steps: NonNegativeInt = 1000
    limit_grows: bool = False
    memory: PositiveInt | None = None

    def check_system(self, symmetric: bool) -> None:
        """Raises `UnsupportedSystem` for an option that nothing reads for such a system."""
        if symmetric and self.memory is not None:
            raise UnsupportedSystem(
                f"memory={self.memory}: is of Broyden's method, and a symmetric system is solved "
                "by conjugate gradients; leave it away"
            )
        if not symmetric and self.limit_grows:
            raise UnsupportedSystem(
                "limit_grows=true: is of conjugate gradients, and a system that is not symmetric "
                "is solved by Broyden's method; leave it away"
            )

    def __call__(self, system: AdjointSystem) -> Adjoint:
        system = replace(system, tol=self.factor * system.tol)
        if system.operator.symmetric:
            return ConjugateGradient(self.max_steps, self.limit_grows)(system)
        return BroydenSteps(self.max_steps, self.memory)(system)
