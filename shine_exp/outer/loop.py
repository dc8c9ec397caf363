"""What the runner sees of an outer loop: a state that it can save, and a step that takes it further."""

import math
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import torch
from torch import Tensor

from shine_exp.problems.linear_model import LinearModel
from shine_exp.trace import Row


@dataclass(frozen=True)
class State:
    """Where a loop stands after a step: hyperparameters α (k,), θ (p,), outer loss (sum), and what they cost so far.

    Holds numbers, tensors, and dicts of those only, so that it can be saved and loaded without pickle.
    """

    step: int
    alpha: Tensor
    theta: Tensor
    outer_value: float = math.inf
    inner_steps: int = 0
    evals: int = 0
    products: int = 0
    tol: float = math.nan
    gradient_norm: float = math.nan
    carry: dict[str, Tensor] = field(default_factory=dict)

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
            "gradient_norm": self.gradient_norm,
        }


class OuterLoop(Protocol):
    """A loop of `n_steps` steps. `columns` are those of its trace, beside step and time."""

    @property
    def n_steps(self) -> int: ...
    @property
    def columns(self) -> tuple[str, ...]: ...
    def begin(self, problem: LinearModel, seed: int) -> State: ...
    def restore(self, saved: dict[str, Any]) -> State: ...
    def advance(self, problem: LinearModel, state: State) -> State: ...
    def measure(self, problem: LinearModel, state: State) -> list[Row]:
        """Rows for the trace, off the clock."""
        ...


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
    "gradient_norm",
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
    theta = torch.randn(problem.n_features, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.zeros(problem.n_hyperparameters, dtype=torch.float64, device=problem.device), theta.to(problem.device)
