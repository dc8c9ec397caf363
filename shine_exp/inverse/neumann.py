"""The Neumann series of the inverse, cut after a fixed number of terms."""

from dataclasses import dataclass

import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from shine_exp.inverse.units import in_units_of_r
from shine_exp.types import Adjoint, AdjointSystem, Status


@dataclass(frozen=True)
class Neumann:
    """u = η Σ_{j ≤ n_terms} (I − η Jᵀ)ʲ r (Lorraine et al. 2020, algorithm 3).

    The series converges for J ≻ 0 and 0 < η < 2/‖J‖. `scale` is η; None takes 1/‖J‖, estimated by
    `n_power_steps` steps of the power method, which count as products. The status is DIVERGED
    where the sum is not finite.
    """

    n_terms: NonNegativeInt = 20
    scale: PositiveFloat | None = None
    n_power_steps: PositiveInt = 10

    any_inner_product = True

    def __call__(self, system: AdjointSystem) -> Adjoint:
        return in_units_of_r(self._sum, system)

    def _sum(self, system: AdjointSystem) -> Adjoint:
        n_products = self.n_terms + (self.n_power_steps if self.scale is None else 0)
        scale = self.scale if self.scale is not None else 1.0 / _divisor(self._norm(system))
        term = total = scale * system.r
        for _ in range(self.n_terms):
            term = term - scale * system.operator(term)
            total = total + term
        finite = torch.isfinite(total).all()
        return Adjoint(total, n_products, lambda: Status.MAX_STEPS if finite else Status.DIVERGED)

    def _norm(self, system: AdjointSystem) -> Tensor:
        """The largest |eigenvalue| of each Jᵀ of the batch, (..., 1), from below."""
        norm = system.operator.inner_product.norm
        v = system.r
        for _ in range(self.n_power_steps):
            v = system.operator(v / _divisor(norm(v)[..., None]))
        return norm(v)[..., None]


def _divisor(norm: Tensor) -> Tensor:
    """The norm, or the smallest normal number where it is 0: there r = 0, and u = 0 too."""
    return norm.clamp_min(torch.finfo(norm.dtype).tiny)
