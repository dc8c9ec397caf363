"""SHINE: the forward solver's inverse estimate, used again."""

from dataclasses import dataclass

from shine_exp.errors import UnsupportedSolver
from shine_exp.types import Adjoint, AdjointSystem, Status


@dataclass(frozen=True)
class Shine:
    """u = Hᵀr with the forward solver's H ≈ J⁻¹, without a product with J.

    (Ramzi et al. 2022, eq. 5.) Raises `UnsupportedSolver` where the solver left no estimate.
    """

    uses_estimate = True
    any_inner_product = True

    def __call__(self, system: AdjointSystem) -> Adjoint:
        if system.estimate is None:
            raise UnsupportedSolver(
                "SHINE needs the inverse estimate of a quasi-Newton solver, and this one leaves "
                "none: take lbfgs, bfgs, scipy, broyden or adjoint_broyden"
            )
        return Adjoint(system.estimate.rmatvec(system.r), n_products=0, status=Status.CONVERGED)
