"""What the loops over α have in common: their state, and the columns of their traces."""

import math
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from shine_exp.bilevel.problems.linear_model import LinearModel
from shine_exp.errors import UserError


@dataclass(frozen=True)
class State:
    """Where a loop stands after a step: hyperparameters α (k,), θ (p,), outer loss (sum), and what
    they cost so far.

    θ was solved for to ‖∇₂G‖ ≤ `tol` and has ‖∇₂G‖ = `inner_residual`. `unsolved_inner` and
    `unsolved_backward` count the solves so far, of θ and of adjoint systems, that missed their
    tolerance. Holds numbers, tensors, and dicts of those only, so that it can be saved and loaded
    without pickle.
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
    carry: dict[str, Tensor] = field(default_factory=dict)

    @property
    def unsolved(self) -> dict[str, int]:
        return {"inner": self.unsolved_inner, "backward": self.unsolved_backward}

    def as_dict(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def row(self) -> dict[str, float | int]:
        """The columns of the trace that need no evaluation."""
        alpha = self.alpha
        return {
            "step": self.step,
            "inner_steps": self.inner_steps,
            "evals": self.evals,
            "products": self.products,
            "alpha": float(alpha.mean()),
            "alpha_min": float(alpha.min()),
            "alpha_max": float(alpha.max()),
            "tol": self.tol,
            "inner_residual": self.inner_residual,
            "gradient_norm": self.gradient_norm,
            "unsolved_inner": self.unsolved_inner,
            "unsolved_backward": self.unsolved_backward,
        }


@dataclass(frozen=True)
class StudyState(State):
    """The state of a study, which moves no hyperparameter: what it measured at this step, as rows
    of the trace.
    """

    rows: list[dict[str, float | int | str]] = field(default_factory=list)


class HyperparameterLoop:
    """What the loops on linear models have in common."""

    n_steps: int
    problem_type = LinearModel
    needs_gradient = False
    changes_in_place = False
    keeps_state = False

    def length(self, problem: LinearModel) -> int:
        return self.n_steps

    def diverged(self, state: State) -> bool:
        return False

    def progress(self, state: State) -> dict[str, str]:
        return {
            "alpha": f"{float(state.alpha.mean()):.3g}",
            "outer loss": f"{state.outer_value:.6g}",
        }


COLUMNS = (
    "inner_steps",
    "evals",
    "products",
    "alpha",
    "alpha_min",
    "alpha_max",
    "outer_loss",
    "test_loss",
    "accuracy",
    "tol",
    "inner_residual",
    "gradient_norm",
    "unsolved_inner",
    "unsolved_backward",
)


def loss_row(problem: LinearModel, state: State) -> dict[str, float | int]:
    """The row of a loop that moves α: counters, and the three measured numbers at θ."""
    measured = problem.evaluate(state.theta)
    return state.row() | {
        "outer_loss": measured.outer_loss,
        "test_loss": measured.test_loss,
        "accuracy": measured.accuracy,
    }


def start_point(problem: LinearModel, seed: int) -> tuple[Tensor, Tensor]:
    """α₀ = 0 and θ₀ ~ N(0, I), by the seed (Ramzi et al. 2022, appendix C)."""
    theta = torch.randn(
        problem.n_features, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    alpha = torch.zeros(problem.n_hyperparameters, dtype=torch.float64, device=problem.device)
    return alpha, problem.start(theta.to(problem.device))


def first_gradient_norm(problem: LinearModel, alpha: Tensor, theta: Tensor) -> float:
    """‖∇₂G(α₀, θ₀)‖, what tolerances are relative to; 1 where it is 0. One evaluation.

    Raises `UserError` where it is not a finite number: the features overflow.
    """
    norm = float(problem.inner(alpha)(theta).gradient.norm())
    if not math.isfinite(norm):
        raise UserError(
            "the gradient of the inner loss at the start is not a finite number: features are too large for float64; "
            "take data.scaling=variance, or scale the data"
        )
    return norm or 1.0
