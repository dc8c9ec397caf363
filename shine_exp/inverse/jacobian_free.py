"""Jacobian-Free backpropagation: the identity in place of the inverse."""

from dataclasses import dataclass

from shine_exp.types import Adjoint, AdjointSystem, Status


@dataclass(frozen=True)
class JacobianFree:
    """u = r, without a product with J (Fung et al. 2021; Luketina et al. 2016)."""

    any_inner_product = True

    def __call__(self, system: AdjointSystem) -> Adjoint:
        return Adjoint(system.r, n_products=0, status=Status.CONVERGED)
