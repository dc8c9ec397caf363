"""The adjoint system as a minimisation, solved by L-BFGS."""

from dataclasses import dataclass

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from shine_exp.errors import UnsupportedSystem
from shine_exp.solvers.lbfgs import LBFGS
from shine_exp.solvers.objective import Smooth
from shine_exp.types import Adjoint, AdjointSystem, Status


@dataclass(frozen=True)
class LBFGSInverse:
    """Minimise ½ uᵀJu − rᵀu, J symmetric positive definite, to ‖Ju − r‖ ≤ tol ‖r‖.

    Starts from `system.start` where ‖J start − r‖ < ‖r‖, else from 0. Where it does not converge,
    as when J is not positive definite and the quadratic has no minimum, the answer is the u of the
    lowest residual. One system: r is (d,). Raises `UnsupportedSystem` where J is not symmetric.
    """

    max_steps: NonNegativeInt = 1000
    memory: PositiveInt = 30

    needs_symmetry = True

    def __call__(self, system: AdjointSystem) -> Adjoint:
        if not system.operator.symmetric:
            raise UnsupportedSystem("L-BFGS needs a symmetric system (problem=logreg or nls)")
        if self.max_steps == 0:
            return Adjoint.unchecked(system.first_iterate)
        quadratic = _Quadratic(system)
        tol = system.tol * float(system.r.norm())
        if system.start is not None:
            quadratic(system.start)
        minimiser = LBFGS(memory=self.memory, max_steps=self.max_steps)
        solution = minimiser(
            Smooth(quadratic), quadratic.best_u, tol
        )  # the start, or 0 where it is worse than none
        u = solution.z if solution.status is Status.CONVERGED else quadratic.best_u
        return Adjoint(u, quadratic.n_products, solution.status, solution.converged)


class _Quadratic:
    """u → ½ uᵀJu − rᵀu and its gradient Ju − r; counts products, and keeps the u of the lowest ‖Ju
    − r‖.
    """

    def __init__(self, system: AdjointSystem) -> None:
        self.system = system
        self.n_products = 0
        self.best_u, self.best_gradient = (
            torch.zeros_like(system.r),
            -system.r,
        )  # J 0 = 0 needs no product

    def __call__(self, u: Tensor) -> tuple[Tensor, Tensor]:
        gradient = self.best_gradient if u is self.best_u else self._gradient(u)
        return 0.5 * u @ (gradient - self.system.r), gradient

    def _gradient(self, u: Tensor) -> Tensor:
        self.n_products += 1
        gradient = self.system.operator(u) - self.system.r
        if gradient.norm() < self.best_gradient.norm():
            self.best_u, self.best_gradient = u, gradient
        return gradient
