"""Broyden's method on the adjoint system Jᵀu = r."""

from dataclasses import dataclass

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from shine_exp.inverse.units import in_units_of_r
from shine_exp.solvers.broyden import Broyden
from shine_exp.solvers.estimates import Transposed
from shine_exp.types import Adjoint, AdjointSystem, unread_status


@dataclass(frozen=True)
class BroydenSteps:
    """Solve Jᵀu = r to ‖Jᵀu − r‖ ≤ tol ‖r‖ for each system of the batch; J need not be symmetric.

    The iteration starts from `system.start`, else from u = 0, with Hᵀ for an inverse where
    `system.estimate` is H ≈ J⁻¹, else with I. It makes at most `max_steps` steps, and each system
    gets its best iterate (Bai et al. 2019, section 3.2; Ramzi et al. 2022, section 4.2, "refine").
    At most `memory` secant pairs are kept (None: all); then the estimate restarts from where it
    began.

    Where a system without `start` never gets below its first residual ‖r‖, the best iterate is
    u = 0, which trains nothing. Its answer is u = r instead, as in Jacobian-Free, and it is marked
    in `Adjoint.fell_back`.
    """

    max_steps: NonNegativeInt = 1000
    memory: PositiveInt | None = None

    def __call__(self, system: AdjointSystem) -> Adjoint:
        if self.max_steps == 0:
            return Adjoint.unchecked(system.r if system.start is None else system.start)
        return in_units_of_r(self._solve, system)

    def _solve(self, system: AdjointSystem) -> Adjoint:
        n_products = 0
        known = -system.r if system.start is None else None  # g(0) = −r needs no product

        def g(u: Tensor) -> Tensor:
            nonlocal known, n_products
            if known is not None:
                value, known = known, None
                return value
            n_products += 1
            return system.operator(u) - system.r

        # The forward estimate belongs to J, and this system has Jᵀ.
        h_transposed = None if system.estimate is None else Transposed(system.estimate)
        length = system.r.norm(dim=-1)
        solution = Broyden(self.max_steps, self.memory)(
            g, system.first_iterate, system.tol * length, estimate=h_transposed
        )
        u, fell_back = solution.z, None
        if system.start is None:
            fell_back = (solution.residual >= length) & ~solution.converged
            u = torch.where(fell_back[..., None], system.r, u)
        status = unread_status(solution)
        return Adjoint(u, n_products, status, solution.converged, fell_back)
