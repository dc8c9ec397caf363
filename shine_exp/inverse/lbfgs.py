"""The adjoint system as a minimisation, solved by L-BFGS."""

from dataclasses import dataclass

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from shine_exp.errors import UnsupportedSystem
from shine_exp.solvers.lbfgs import LBFGS
from shine_exp.solvers.objective import Smooth
from shine_exp.types import Adjoint, AdjointSystem


@dataclass(frozen=True)
class LBFGSInverse:
    """Minimise ½ uᵀJu − rᵀu, J symmetric positive definite, to ‖Ju − r‖ ≤ tol ‖r‖.

    Starts from `system.start`, else from 0. One system: r is (d,). Raises `UnsupportedSystem` where J is not symmetric.
    """

    max_steps: NonNegativeInt = 1000
    memory: PositiveInt = 30

    needs_symmetry = True

    def __call__(self, system: AdjointSystem) -> Adjoint:
        if not system.symmetric:
            raise UnsupportedSystem("L-BFGS needs a symmetric system (problem=logreg or nls)")
        n_products = 0

        def quadratic(u: Tensor) -> tuple[Tensor, Tensor]:
            nonlocal n_products
            n_products += 1
            image = system.vjp(u)
            return u @ (0.5 * image - system.r), image - system.r

        start = system.start if system.start is not None else torch.zeros_like(system.r)
        tol = system.tol * float(system.r.norm())
        solution = LBFGS(memory=self.memory, max_steps=self.max_steps)(Smooth(quadratic), start, tol)
        return Adjoint(solution.z, n_products, solution.status)
