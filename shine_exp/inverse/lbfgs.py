"""The adjoint system as the minimisation of a quadratic, solved by L-BFGS."""

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

    It starts from `system.start` where ‖J start − r‖ < ‖r‖, else from 0. Where it does not
    converge, as when J is not positive definite and the quadratic has no minimum, the answer is
    the u with the lowest residual. It solves one system, with r (d,). Raises `UnsupportedSystem`
    where J is not symmetric.
    """

    max_steps: NonNegativeInt = 1000
    memory: PositiveInt = 30

    needs_symmetry = True
    any_inner_product = True

    def __call__(self, system: AdjointSystem) -> Adjoint:
        if not system.operator.symmetric:
            raise UnsupportedSystem("L-BFGS needs a symmetric system, as a bi-level problem has")
        if self.max_steps == 0:
            return Adjoint.unchecked(system.first_iterate)
        quadratic = _Quadratic(system)
        dot = system.operator.inner_product
        tol = system.tol * float(dot.norm(system.r))
        if system.start is not None:
            quadratic(system.start)
        minimiser = LBFGS(memory=self.memory, max_steps=self.max_steps)
        # From the start, or from 0 where the start is worse than that.
        solution = minimiser(Smooth(quadratic, dot), quadratic.best_u, tol)
        u = solution.z if solution.status is Status.CONVERGED else quadratic.best_u
        return Adjoint(u, quadratic.n_products, solution.status, solution.converged)


class _Quadratic:
    """u ↦ ½ uᵀJu − rᵀu and its gradient Ju − r, which is the residual.

    It counts the products with J, and keeps the u with the lowest ‖Ju − r‖.
    """

    def __init__(self, system: AdjointSystem) -> None:
        self.system = system
        self.dot = system.operator.inner_product
        self.n_products = 0
        # J 0 = 0 needs no product.
        self.best_u = torch.zeros_like(system.r)
        self.best_gradient = -system.r

    def __call__(self, u: Tensor) -> tuple[Tensor, Tensor]:
        # Asked again for the best u, as by the minimiser for its start, it makes no product.
        gradient = self.best_gradient if u is self.best_u else self._gradient(u)
        return 0.5 * self.dot(u, gradient - self.system.r), gradient

    def _gradient(self, u: Tensor) -> Tensor:
        self.n_products += 1
        gradient = self.system.operator(u) - self.system.r
        if self.dot.norm(gradient) < self.dot.norm(self.best_gradient):
            self.best_u, self.best_gradient = u, gradient
        return gradient
