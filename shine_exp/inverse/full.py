"""The adjoint system, solved by the iteration that suits it."""

from dataclasses import dataclass, replace

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from shine_exp.errors import UnsupportedSystem
from shine_exp.inverse.broyden import BroydenSteps
from shine_exp.inverse.conjugate_gradient import ConjugateGradient
from shine_exp.types import Adjoint, AdjointSystem


@dataclass(frozen=True)
class Full:
    """Solve Jᵀu = r to ‖Jᵀu − r‖ ≤ factor · tol ‖r‖.

    The iteration is `ConjugateGradient` where J is symmetric, with `limit_grows`, and else
    `BroydenSteps`, with `memory`. A factor below 1 makes the backward error negligible beside the
    forward one. With a low `max_steps` this is "limited backward" (Ramzi et al. 2022, appendix E).
    """

    factor: PositiveFloat = 0.1
    max_steps: NonNegativeInt = 1000
    limit_grows: bool = False
    memory: PositiveInt | None = None

    any_inner_product = True  # Broyden's method is for networks, whose vectors are plain

    def check_system(self, symmetric: bool) -> None:
        """Raises `UnsupportedSystem` for an option that nothing would read."""
        if symmetric and self.memory is not None:
            raise UnsupportedSystem(
                f"memory={self.memory}: it belongs to Broyden's method, and a symmetric system is "
                "solved by conjugate gradients; leave it out"
            )
        if not symmetric and self.limit_grows:
            raise UnsupportedSystem(
                "limit_grows=true: it belongs to conjugate gradients, and a system that is not "
                "symmetric is solved by Broyden's method; leave it out"
            )

    def __call__(self, system: AdjointSystem) -> Adjoint:
        system = replace(system, tol=self.factor * system.tol)
        if system.operator.symmetric:
            return ConjugateGradient(self.max_steps, self.limit_grows)(system)
        return BroydenSteps(self.max_steps, self.memory)(system)
