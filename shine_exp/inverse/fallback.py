"""SHINE where its answer is plausible, Jacobian-Free elsewhere."""

from dataclasses import dataclass

import torch
from pydantic import PositiveFloat

from shine_exp.inverse.shine import Shine
from shine_exp.inverse.units import in_units_of_r
from shine_exp.types import Adjoint, AdjointSystem, Status


@dataclass(frozen=True)
class Fallback:
    """u = Hᵀr where ‖Hᵀr‖ ≤ ratio ‖r‖, else u = r, for each system of the batch.

    (Ramzi et al. 2022, section 4.2.) Made for networks, whose J⁻¹ is close to I. The inverse
    Hessian of a weakly regularised regression is far larger, so there the method falls back more
    and more as α falls.
    """

    ratio: PositiveFloat = 1.3

    uses_estimate = True
    any_inner_product = True

    def __call__(self, system: AdjointSystem) -> Adjoint:
        return in_units_of_r(self._choose, system)

    def _choose(self, system: AdjointSystem) -> Adjoint:
        shine = Shine()(system)
        norm = system.operator.inner_product.norm
        # False, too, where Hᵀr is NaN.
        plausible = (norm(shine.u) <= self.ratio * norm(system.r))[..., None]
        u = torch.where(plausible, shine.u, system.r)
        return Adjoint(u, shine.n_products, Status.CONVERGED, fell_back=~plausible[..., 0])
