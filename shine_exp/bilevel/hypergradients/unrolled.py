"""Unrolled differentiation: the inner iteration itself is differentiated."""

from dataclasses import dataclass

import torch
from pydantic import PositiveInt
from torch import Tensor

from shine_exp.bilevel.descent import DescentState, Hypergradient, Inner
from shine_exp.bilevel.problems.linear_model import LinearModel
from shine_exp.solvers.objective import Objective
from shine_exp.types import Solver


@dataclass(frozen=True)
class Unrolled:
    """∇h ≈ d F(θ_T(α)) / dα through T steps θ ← θ − η ∇₂G(α, θ), η = 1/L, from the warm-started θ
    (Domke 2012).

    The solver finds θ*; the graph of the T steps that follow it is what is differentiated, and its
    memory grows as T p. L bounds ‖∇²₂₂G‖: ‖X‖² max|ℓ''| + the largest penalty, with |ℓ''| ≤ ¼. One
    forward and one backward pass are 2T products; ‖X‖² is measured once, and its products belong
    to the first hypergradient.
    """

    solver: Solver[Objective]
    n_unrolled: PositiveInt

    def solve(
        self, problem: LinearModel, state: DescentState, alpha: Tensor, tol: float, left: int
    ) -> Inner:
        solution = self.solver(problem.inner(alpha), state.theta, tol)
        value, _ = problem.outer(solution.z)
        residual = float(solution.residual)
        return Inner(
            solution.z, value, residual, solution.n_steps, solution.n_evals, solution.status, {}
        )

    def hypergradient(self, problem: LinearModel, state: DescentState) -> Hypergradient:
        alpha = state.alpha.clone().requires_grad_()
        norm = problem.train_norm
        step = 1.0 / (0.25 * norm.square + float(problem.penalty(state.alpha).max()))
        theta = state.theta
        for _ in range(self.n_unrolled):
            theta = theta - step * problem.inner_gradient(alpha, theta)
        _, r = problem.outer(theta.detach())
        (value,) = torch.autograd.grad(theta, alpha, r)
        first = state.last is None  # the hypergradient that the norm is measured for
        return Hypergradient(
            value, 2 * self.n_unrolled + (norm.n_products if first else 0), True, {}
        )
