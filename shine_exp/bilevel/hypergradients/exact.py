"""The exact hypergradient, as far as floating point goes: what all others are held against.

This is the one place where something is "solved exactly"; studies and tests ask here.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from shine_exp.bilevel.hypergradients.hypergradient import Hypergradient
from shine_exp.bilevel.hypergradients.implicit import Implicit
from shine_exp.bilevel.inner_solution import InnerSolution, solve_inner
from shine_exp.bilevel.problem import BilevelProblem
from shine_exp.inverse.conjugate_gradient import ConjugateGradient
from shine_exp.solvers.lbfgs import LBFGS
from shine_exp.solvers.objective import Point
from shine_exp.types import AdjointSystem, LinearOperator, Status

MAX_STEPS = 10_000
ADJOINT_TOL = 1e-12  # relative to ‖r‖


def exact_hypergradient(
    problem: BilevelProblem, alpha: Tensor, start: Point, tol: float
) -> Hypergradient:
    """∇h(α) at θ*(α) with ‖∇_θG‖ ≤ tol by L-BFGS, and u to `ADJOINT_TOL` by conjugate gradients.

    The value is NaN where one of the two solves failed. A θ that floating point keeps from its
    tolerance (STALLED) is no failure.
    """
    at = exact_solution(problem, alpha, start, tol)
    found = Implicit(ConjugateGradient(MAX_STEPS))(problem, at, ADJOINT_TOL)
    solved = found.solved and at.status in (Status.CONVERGED, Status.STALLED)
    return found if solved else replace(found, value=found.value * math.nan, solved=False)


def exact_solution(
    problem: BilevelProblem, alpha: Tensor, start: Point, tol: float
) -> InnerSolution:
    """θ*(α) to ‖∇_θG‖ ≤ tol, or as near as floating point gets; the status says which."""
    return solve_inner(problem, LBFGS(max_steps=MAX_STEPS), alpha, start, tol)


def exact_inverse(operator: LinearOperator, r: Tensor) -> Tensor:
    """A⁻¹ r (d,) for a symmetric A, to a relative residual of `ADJOINT_TOL`; NaN on failure."""
    adjoint = ConjugateGradient(MAX_STEPS)(AdjointSystem(operator, r, ADJOINT_TOL))
    solved = adjoint.status is Status.CONVERGED
    return adjoint.u if solved else torch.full_like(r, math.nan)
