"""What the loops over α have in common: their state, and the columns of their traces."""

import math
from dataclasses import dataclass, field, fields
from typing import Any, Generic, TypeVar

from torch import Tensor

from shine_exp.bilevel.problem import BilevelProblem
from shine_exp.bilevel.soundness import check_columns, check_start, measured

COUNTERS = ("inner_steps", "evals", "products")
ALPHA = ("alpha", "alpha_min", "alpha_max")
SOLVES = ("tol", "inner_residual", "gradient_norm", "unsolved_inner", "unsolved_backward")
COMPARED = ("exact_cosine", "exact_norm_ratio")
OURS = ("step", "time", *COUNTERS, *ALPHA, *SOLVES, *COMPARED)


@dataclass(frozen=True)
class State:
    """Where a loop stands after a step: α, θ (d,), F there, and what they have cost so far.

    θ was solved for to ‖∇_θG‖ ≤ `tol`, and has ‖∇_θG‖ = `inner_residual`. The costs are numbers of
    inner steps, of evaluations of ∇_θG, and of products with ∇²_θθG. `unsolved_inner` and
    `unsolved_backward` count the solves so far, of θ and of adjoint systems, that missed their
    tolerance.
    """

    step: int
    alpha: Tensor
    theta: Tensor
    outer_value: float = math.inf
    inner_steps: int = 0
    evals: int = 0
    products: int = 0
    tol: float = math.nan
    inner_residual: float = math.nan
    gradient_norm: float = math.nan
    unsolved_inner: int = 0
    unsolved_backward: int = 0

    @property
    def unsolved(self) -> dict[str, int]:
        return {"inner": self.unsolved_inner, "backward": self.unsolved_backward}

    def state_dict(self) -> dict[str, Any]:
        """The whole state, as numbers, tensors, and dicts, lists and tuples of them."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {
            name: value.state_dict() if hasattr(value, "state_dict") else value
            for name, value in values.items()
        }

    def row(self) -> dict[str, float | int]:
        """The columns of the trace that the problem need not measure."""
        return {
            "step": self.step,
            "inner_steps": self.inner_steps,
            "evals": self.evals,
            "products": self.products,
            "alpha": float(self.alpha.mean()),
            "alpha_min": float(self.alpha.min()),
            "alpha_max": float(self.alpha.max()),
            "tol": self.tol,
            "inner_residual": self.inner_residual,
            "gradient_norm": self.gradient_norm,
            "unsolved_inner": self.unsolved_inner,
            "unsolved_backward": self.unsolved_backward,
        }


@dataclass(frozen=True)
class StudyState(State):
    """The state of a study, which moves no α: `rows` is what it measured at this step."""

    seed: int = 0
    rows: list[dict[str, float | int | str]] = field(default_factory=list)


S = TypeVar("S", bound=State)


class BilevelLoop(Generic[S]):
    """What the loops over α and the studies have in common."""

    n_steps: int
    problem_type = BilevelProblem
    needs_gradient = False
    changes_in_place = False

    @property
    def any_inner_product(self) -> bool:
        """Whether all parts of the loop take products of vectors from the problem."""
        return False

    def suited(self, problem: BilevelProblem) -> BilevelProblem:
        """The problem itself, or in the variables in which ⟨a, b⟩ = Σ_j a_j b_j."""
        return problem if self.any_inner_product else problem.euclidean

    def check(self, problem: BilevelProblem) -> None:
        """Raises `UserError` for what is no problem; a loop that needs more of one adds to this."""
        check_start(problem)
        problem.check()
        check_columns(problem, OURS)

    def columns(self, problem: BilevelProblem) -> tuple[str, ...]:
        return (*COUNTERS, *ALPHA, *problem.columns, *SOLVES)

    def length(self, problem: BilevelProblem) -> int:
        return self.n_steps

    def diverged(self, state: S) -> str | None:
        return None

    def progress(self, state: S) -> dict[str, str]:
        alpha = f"{float(state.alpha.mean()):.3g}"
        return {"alpha": alpha, "outer loss": f"{state.outer_value:.6g}"}

    def solution(self, problem: BilevelProblem, state: S) -> dict[str, Any]:
        """α and θ, in the variables that the problem was given in."""
        alpha, theta = problem.as_given(state.alpha, state.theta)
        return {"alpha": alpha, "theta": theta}


class Study(BilevelLoop[S]):
    """What the studies have in common: they measure at α₀, and find nothing to be kept."""

    def solution(self, problem: BilevelProblem, state: S) -> dict[str, Any]:
        return {}


def measured_row(problem: BilevelProblem, state: State) -> dict[str, float | int]:
    """The row of a loop that moves α: counters, and what the problem measures at (α, θ)."""
    return state.row() | measured(problem, state.alpha, state.theta)
