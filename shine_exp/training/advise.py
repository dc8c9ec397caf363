"""Study: which backward pass for a network's cell, new or trained."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import nn

from shine_exp.deq.compare_gradients import compare_backward_passes
from shine_exp.deq.layer import DEQ
from shine_exp.errors import UserError
from shine_exp.loop import Row
from shine_exp.solvers.iterates import RootFunction
from shine_exp.training.task import Task
from shine_exp.training.task_checks import check_network, check_task
from shine_exp.types import Solver

COLUMNS = (
    *("method", "cosine", "relative_error", "parameter_cosine", "parameter_error"),
    *("products", "milliseconds", "mebibytes", "spectral_radius"),
)


class TrainedRun(Protocol):
    """A run whose network is looked at: what is known of it, and its weights as "network"."""

    @property
    def info(self) -> dict[str, Any]: ...
    @property
    def solution(self) -> dict[str, Any]: ...


@dataclass
class AdviseState:
    """The rows of the table, and the advice, once there are any."""

    step: int
    seed: int
    network: nn.Module
    layer: DEQ
    rows: list[Row] = field(default_factory=list)
    conclusions: list[str] = field(default_factory=list)
    unsolved: dict[str, int] = field(default_factory=lambda: {"inner": 0, "backward": 0})

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "seed": self.seed}


@dataclass(frozen=True)
class Advise:
    """Compares the gradients of all methods in one training batch, as `compare_gradients` does.

    The network is that of the run `trained`, or the task's initial one. The forward pass is solved
    by `solver` to `tol`, the reference of the backward passes in at most `exact_steps` steps.

    Raises `UserError` where the run was of another network.
    """

    solver: Solver[RootFunction]
    tol: PositiveFloat
    trained: TrainedRun | None
    exact_steps: PositiveInt

    problem_type: ClassVar[type] = Task
    needs_gradient = True  # the solver is told of the loss
    changes_in_place = True

    def suited(self, task: Task) -> Task:
        return task

    def check(self, task: Task) -> None:
        check_task(task, ("step", "time", *COLUMNS))
        if self.trained is not None:
            _check_same(task, self.trained)

    def columns(self, task: Task) -> tuple[str, ...]:
        return COLUMNS

    def length(self, task: Task) -> int:
        return 1

    def init(self, task: Task, seed: int) -> AdviseState:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = task.network(self._layer)
        layer = check_network(task, network)
        if self.trained is not None:
            try:
                network.load_state_dict(self.trained.solution["network"])
            except (KeyError, RuntimeError) as error:
                raise _another("it has no network of these sizes") from error
        return AdviseState(0, seed, network.train(), layer)

    def _layer(self, cell: nn.Module) -> DEQ:
        return DEQ(cell, self.solver, None, tol=self.tol, warn=False)

    def load_state_dict(self, task: Task, saved: dict[str, Any]) -> AdviseState:
        return self.init(task, saved["seed"])

    def step(self, task: Task, state: AdviseState) -> AdviseState:
        batch = task.batch(state.seed, 0)
        compared = compare_backward_passes(
            state.layer, lambda: task.loss(state.network, batch), exact_steps=self.exact_steps
        )
        state.step = 1
        state.rows = [{"step": 1, **row} for row in compared.table()]
        state.conclusions = str(compared).splitlines()
        state.unsolved = {
            "inner": compared.n_unsolved_forward,
            "backward": compared.n_unsolved_backward,
        }
        return state

    def diverged(self, state: AdviseState) -> str | None:
        return None

    def measure(self, task: Task, state: AdviseState) -> list[Row]:
        return state.rows

    def progress(self, state: AdviseState) -> dict[str, str]:
        return {}

    def solution(self, task: Task, state: AdviseState) -> dict[str, Any]:
        return {}


def _check_same(task: Task, run: TrainedRun) -> None:
    """Raises `UserError` where what the task says of itself is not what the run's task said."""
    for name, value in task.facts.items():
        if run.info.get(name) != value:
            raise _another(f"its {name} is {run.info.get(name)}, and here {value}")


def _another(why: str) -> UserError:
    return UserError(
        f"outer.trained.folder: that run trained another network ({why}); give this command the "
        "problem and data of that run"
    )
