"""Broyden's method on the adjoint system."""

from dataclasses import dataclass

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from shine_exp.solvers.broyden import Broyden
from shine_exp.solvers.linear_inverse import Transposed
from shine_exp.types import Adjoint, AdjointSystem


@dataclass(frozen=True)
class BroydenSteps:
    """Solve Jᵀu − r = 0 to ‖Jᵀu − r‖ ≤ tol ‖r‖ for each system of the batch, J need not be symmetric.

    From `system.start`, else from 0, with the inverse estimate Hᵀ where `system.inverse` is H ≈ J⁻¹, else I: a forward
    estimate must be *transposed* for the adjoint system. At most `max_steps` steps, and the best iterate of each system
    (Bai et al. 2019, section 3.2; Ramzi et al. 2022, section 4.2, "refine"). After `memory` secant pairs (None: never)
    the estimate restarts from where it began: memory no longer grows with the steps.
    """

    max_steps: NonNegativeInt = 1000
    memory: PositiveInt | None = None

    def __call__(self, system: AdjointSystem) -> Adjoint:
        n_products = 0
        start, known = system.start, None
        if start is None:
            start, known = torch.zeros_like(system.r), -system.r  # g(0) needs no product

        def g(u: Tensor) -> Tensor:
            nonlocal known, n_products
            if known is not None:
                value, known = known, None
                return value
            n_products += 1
            return system.vjp(u) - system.r

        inverse = None if system.inverse is None else Transposed(system.inverse)
        tol = system.tol * system.r.norm(dim=-1)
        solution = Broyden(self.max_steps, self.memory)(g, start, tol, inverse=inverse)
        return Adjoint(solution.z, n_products, solution.status)
