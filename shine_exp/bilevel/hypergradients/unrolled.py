"""Unrolled differentiation: the inner iteration itself is differentiated."""

from dataclasses import dataclass

import torch
from pydantic import PositiveInt

from shine_exp.bilevel.hypergradients.hypergradient import Hypergradient
from shine_exp.bilevel.inner_solution import InnerSolution
from shine_exp.bilevel.problem import BilevelProblem
from shine_exp.errors import UserError


@dataclass(frozen=True)
class Unrolled:
    """∇h(α) ≈ dF(α, θ_T(α)) / dα through T steps θ ← θ − ∇_θG(α, θ) / L (Domke 2012).

    T is `n_unrolled`, and L bounds ‖∇²_θθG‖ (`BilevelProblem.smoothness`). The T steps start where
    the solver ended and are the only ones that are differentiated; the memory of their graph grows
    as T d. The cost is 2T products, for one pass forward and one backward. To it come those that L
    took: once only, where L serves every α.
    """

    n_unrolled: PositiveInt

    def check(self, problem: BilevelProblem) -> None:
        """Raises `UserError` for a problem without a differentiable inner gradient."""
        if type(problem).inner_gradient is BilevelProblem.inner_gradient:
            raise UserError(
                "unrolling differentiates the gradient of the inner loss, and "
                f"{type(problem).__name__} has no inner_gradient; take an implicit method"
            )

    def __call__(
        self,
        problem: BilevelProblem,
        at: InnerSolution,
        tol: float,
        previous: Hypergradient | None = None,
    ) -> Hypergradient:
        bound = problem.smoothness(at.alpha, at.point)
        alpha, theta = at.alpha.detach().requires_grad_(), at.theta
        for _ in range(self.n_unrolled):
            theta = theta - problem.inner_gradient(alpha, theta) / bound.value
        outer = problem.outer(at.alpha, theta.detach())
        (value,) = torch.autograd.grad(theta, alpha, outer.gradient)
        if outer.direct is not None:
            value = value + outer.direct
        paid_before = bound.once and previous is not None
        n_products = 2 * self.n_unrolled + (0 if paid_before else bound.n_products)
        return Hypergradient(at.alpha, value, n_products, solved=bool(value.isfinite().all()))
