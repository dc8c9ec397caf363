"""The inner problem solved: θ ≈ θ*(α), with what the solver leaves and F says there."""

import math
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor

from shine_exp.bilevel.problem import BilevelProblem, OuterValue
from shine_exp.errors import UserError
from shine_exp.solvers.objective import Objective, Point
from shine_exp.types import KeepsEstimate, Outer, SecantEstimate, Solver, Status


@dataclass(frozen=True)
class InnerSolution:
    """A point θ (d,) with ‖∇_θG(α, θ)‖ = residual, F there, and the solver's H ≈ (∇²_θθG)⁻¹."""

    alpha: Tensor
    point: Point
    outer: OuterValue
    estimate: SecantEstimate | None
    residual: float
    n_steps: int
    n_evals: int
    status: Status

    @property
    def theta(self) -> Tensor:
        return self.point.z

    def state_dict(self) -> dict[str, Any]:
        """All but F, which follows from α and θ, as numbers, tensors, and dicts of them."""
        return {
            "alpha": self.alpha,
            "point": self.point.state_dict(),
            "estimate": None if self.estimate is None else self.estimate.state_dict(),
            "residual": self.residual,
            "n_steps": self.n_steps,
            "n_evals": self.n_evals,
            "status": str(self.status),
        }

    @staticmethod
    def load(
        problem: BilevelProblem, solver: Solver[Objective], saved: dict[str, Any]
    ) -> "InnerSolution":
        """The solution whose `state_dict` was saved."""
        alpha, estimate = saved["alpha"], saved["estimate"]
        point = problem.inner(alpha).load(saved["point"])
        if estimate is not None:
            estimate = cast(KeepsEstimate, solver).load_estimate(estimate)
        loaded = {
            "point": point,
            "estimate": estimate,
            "outer": problem.outer(alpha, point.z),
            "status": Status(saved["status"]),
        }
        return InnerSolution(**(saved | loaded))


def solve_inner(
    problem: BilevelProblem,
    solver: Solver[Objective],
    alpha: Tensor,
    start: Point,
    tol: float,
    estimate: SecantEstimate | None = None,
    outer: Outer | None = None,
) -> InnerSolution:
    """θ*(α) to ‖∇_θG‖ ≤ tol, from a point of any α.

    `estimate` belongs to this α, and the solver may change it. `outer` is what a solver with OPA
    is told.
    """
    objective = problem.inner(alpha, start)
    solution = solver(objective, start.z, tol, outer=outer, estimate=estimate)
    point = objective(solution.z) if solution.point is None else solution.point
    return InnerSolution(
        alpha=alpha,
        point=point,
        outer=problem.outer(alpha, solution.z),
        estimate=cast(SecantEstimate | None, solution.estimate),  # what minimisers leave
        residual=float(solution.residual),
        n_steps=solution.n_steps,
        n_evals=solution.n_evals,
        status=solution.status,
    )


def start_solution(problem: BilevelProblem) -> InnerSolution:
    """The start (α₀, θ₀), not solved for: its residual is ‖∇_θG(α₀, θ₀)‖, its n_steps 0."""
    alpha, theta = problem.start()
    objective = problem.inner(alpha)
    point = objective(theta)
    residual = point.gradient_norm  # counts as an evaluation, so n_evals comes after it
    return InnerSolution(
        alpha=alpha,
        point=point,
        outer=problem.outer(alpha, theta),
        estimate=None,
        residual=residual,
        n_steps=0,
        n_evals=objective.n_evals,
        status=Status.MAX_STEPS,
    )


def outer_at(problem: BilevelProblem, alpha: Tensor, steps_left: int) -> Outer:
    """What a solver with OPA is told of F at α, where `steps_left` outer steps follow."""
    return Outer(lambda theta: problem.outer(alpha, theta).gradient, steps_left)


def first_gradient_norm(start: Point) -> float:
    """‖∇_θG(α₀, θ₀)‖, to which inner tolerances are relative; 1 where it is 0.

    Raises `UserError` where it is not a finite number.
    """
    norm = start.gradient_norm
    if not math.isfinite(norm):
        raise UserError(
            "the gradient of the inner loss at the start is not a finite number; in a regression, "
            "features that are too large for float64 are the reason: take data.scaling=variance, "
            "or scale the data"
        )
    return norm or 1.0
