"""First-order DARTS: the inner solution counts as a constant, and nothing is inverted."""

from dataclasses import dataclass

import torch

from shine_exp.errors import UnsupportedSystem
from shine_exp.types import Adjoint, AdjointSystem, Status


@dataclass(frozen=True)
class FirstOrder:
    """u = 0: all that is left of ∇h(α) is ∂F/∂α (Liu et al. 2019, section 2.3, ξ = 0).

    Where F does not depend on α directly, nothing is left: `needs_direct` says so.
    """

    needs_direct = True
    any_inner_product = True

    def check_system(self, symmetric: bool) -> None:
        """Raises `UnsupportedSystem` for a network, whose equilibrium would not be trained."""
        if not symmetric:
            raise UnsupportedSystem(
                "first_order leaves out what goes through the inner problem, and in a network all "
                "that comes before the equilibrium goes through it"
            )

    def __call__(self, system: AdjointSystem) -> Adjoint:
        return Adjoint(torch.zeros_like(system.r), n_products=0, status=Status.CONVERGED)
