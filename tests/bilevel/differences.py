"""Inner solutions to rounding, and the hypergradient by finite differences of them."""

import torch
from torch import Tensor

from shine_exp.bilevel.inner_solution import InnerSolution, solve_inner
from shine_exp.bilevel.problem import BilevelProblem
from shine_exp.solvers.lbfgs import LBFGS


def solved(
    problem: BilevelProblem, alpha: Tensor, theta: Tensor | None = None, tol: float = 1e-11
) -> InnerSolution:
    """θ*(α) by BFGS to ‖∇_θG‖ ≤ tol, from `theta`, which is 0 by default."""
    if theta is None:
        _, start = problem.start()
        theta = torch.zeros_like(start)
    return solve_inner(problem, LBFGS(memory=None), alpha, problem.inner(alpha)(theta), tol)


def finite_differences(problem: BilevelProblem, at: InnerSolution, h: float) -> Tensor:
    """∇h(α) at an inner solution, in the shape of α, by central differences of F(α, θ*(α))."""
    alpha = at.alpha
    differences = []
    for step in h * torch.eye(alpha.numel(), dtype=alpha.dtype):
        e = step.reshape(alpha.shape)
        # From the θ at hand, so that a problem with several minima stays at the same one.
        plus, minus = (solved(problem, alpha + sign * e, at.theta) for sign in (1, -1))
        differences.append((plus.outer.value - minus.outer.value) / (2 * h))
    return torch.tensor(differences, dtype=alpha.dtype).reshape(alpha.shape)
