"""The conjugate gradient method for symmetric adjoint systems."""

from dataclasses import dataclass

import torch
from pydantic import NonNegativeInt
from torch import Tensor

from shine_exp.errors import UnsupportedSystem
from shine_exp.types import Adjoint, AdjointSystem, Status


@dataclass(frozen=True)
class ConjugateGradient:
    """Solve J u = r, J symmetric positive definite, to ‖J u − r‖ ≤ tol ‖r‖ (HOAG: Pedregosa 2016, algorithm 1).

    Starts from `system.start`, else from 0. At most `max_steps` products ("limited backward", Ramzi et al. 2022,
    appendix E). Where the step limit grows as the tolerance falls, `limit_grows` raises it to ⌊1 / (100 √tol)⌋.
    Stops as STALLED, with the last good iterate, in a direction without positive curvature, which a Hessian of
    non-linear least squares can have. Raises `UnsupportedSystem` where J is not symmetric.
    """

    max_steps: NonNegativeInt = 1000
    limit_grows: bool = False

    needs_symmetry = True

    def __call__(self, system: AdjointSystem) -> Adjoint:
        if not system.symmetric:
            raise UnsupportedSystem("CG needs a symmetric system (problem=logreg or nls)")
        limit = self.max_steps
        if self.limit_grows and system.tol > 0:
            limit = max(limit, int(1 / (100 * system.tol**0.5)))
        return _solve(system, limit)


def _solve(system: AdjointSystem, limit: int) -> Adjoint:
    threshold = system.tol * system.r.norm(dim=-1, keepdim=True)
    if system.start is None:
        u, residual, n_products = torch.zeros_like(system.r), system.r, 0
    else:
        u, residual, n_products = system.start, system.r - system.vjp(system.start), 1
    direction, square = residual, _dot(residual, residual)
    while (square.sqrt() > threshold).any():
        if n_products >= limit:
            return Adjoint(u, n_products, Status.MAX_STEPS)
        image = system.vjp(direction)
        n_products += 1
        curvature = _dot(direction, image)
        if ((curvature <= 0) & (square > 0)).any() or not torch.isfinite(curvature).all():
            return Adjoint(u, n_products, Status.STALLED)
        step = torch.where(square > 0, square / curvature, 0.0)  # a system of the batch that is solved stands still
        u = u + step * direction
        residual = residual - step * image
        last, square = square, _dot(residual, residual)
        direction = residual + torch.where(last > 0, square / last, 0.0) * direction
    return Adjoint(u, n_products, Status.CONVERGED)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1, keepdim=True)
