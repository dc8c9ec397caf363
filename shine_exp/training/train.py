"""Training of a network with an equilibrium layer, by the hypergradients of batches."""

import math
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from shine_exp.deq.layer import DEQ
from shine_exp.deq.report import Report
from shine_exp.errors import UserError
from shine_exp.loop import Row
from shine_exp.randomness import generator
from shine_exp.solvers.iterates import RootFunction
from shine_exp.training.layer_calls import calls_of
from shine_exp.training.optimisers import Optimiser
from shine_exp.training.schedules import Schedule
from shine_exp.training.task import Task
from shine_exp.training.task_checks import (
    check_loss,
    check_measured,
    check_network,
    check_task,
    first_use,
)
from shine_exp.types import InverseMethod, Solver

MEANS = (
    "train_loss",
    "gradient_norm",
    "inner_residual",
    "forward_residual",
    "backward_residual",
    "converged",
    "forward_steps",
    "evals",
    "products",
    "fell_back",
)
MEDIANS = ("forward_ms", "backward_ms")
FINITE = ("train_loss", "gradient_norm")
TOTALS = ("unsolved_inner", "unsolved_backward")
OURS = ("test_unsolved", "spectral_radius", "learning_rate", *MEANS, *TOTALS, *MEDIANS)
RADIUS = 2  # the stream of random numbers that the power method starts from
T = TypeVar("T")
AnyTask = TypeVar("AnyTask", bound=Task)
Log = dict[str, list[float]]  # a number per step of the epoch


@dataclass
class TrainState:
    """The network and its optimiser after `step` steps, and the log of the epoch.

    A step changes it in place. It holds no random state: what is random at a step follows from the
    seed and the number of the step. The samples whose forward or backward solve missed its
    tolerance are counted over all steps, on the device.
    """

    step: int
    seed: int
    network: nn.Module
    layer: DEQ  # that of the network
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    log: Log = field(default_factory=dict)
    unsolved_inner: Tensor | int = 0
    unsolved_backward: Tensor | int = 0
    # All solves so far, of which these have missed it.
    solves: dict[str, int] = field(default_factory=lambda: {"inner": 0, "backward": 0})

    @property
    def unsolved(self) -> dict[str, int]:
        return {"inner": int(self.unsolved_inner), "backward": int(self.unsolved_backward)}

    def count_inner(self, solved: Tensor) -> None:
        """Add forward solves: which samples (batch,), bool, reached their tolerance."""
        self.solves["inner"] += solved.numel()
        self.unsolved_inner = self.unsolved_inner + (~solved).sum()

    def count_backward(self, solved: Tensor) -> None:
        """The same of backward solves."""
        self.solves["backward"] += solved.numel()
        self.unsolved_backward = self.unsolved_backward + (~solved).sum()

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "seed": self.seed,
            "log": self.log,
            "unsolved": self.unsolved,
            "solves": self.solves,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }


@dataclass(frozen=True)
class Train(Generic[AnyTask]):
    """`epochs` of `optimiser`, whose learning rate `schedule` changes at every step.

    The first `pretrain_steps` differentiate through `n_pretrain_unrolled` applications of the
    cell. Then the equilibrium is solved by `solver` to `tol` and differentiated by `inverse` to
    `adjoint_tol`, as `shine_exp.deq.DEQ` says; or, with `n_unrolled`, never.
    `mixed_precision` trains the network, but not the solver's vectors, in bfloat16.

    The trace has a row per epoch: what the task measures; means over the steps of the epoch
    (residuals are medians over each batch); median milliseconds of the forward pass with the loss,
    and of the backward pass. `unsolved_inner` and `unsolved_backward` count the samples of all
    steps so far whose solve missed its tolerance, `test_unsolved` those of the task's evaluation.
    `spectral_radius` is the median ρ(∂f/∂z) over the first batch of the evaluation, by
    `n_power_steps` of the power method (0: not measured).

    Raises `UserError` where neither or both of `inverse` and `n_unrolled` are given.
    """

    solver: Solver[RootFunction]
    inverse: InverseMethod | None
    tol: PositiveFloat
    adjoint_tol: PositiveFloat
    n_unrolled: PositiveInt | None
    epochs: PositiveInt
    pretrain_steps: NonNegativeInt
    n_pretrain_unrolled: PositiveInt
    optimiser: Optimiser
    schedule: Schedule
    mixed_precision: bool
    n_power_steps: NonNegativeInt

    problem_type: ClassVar[type] = Task
    needs_gradient = True
    changes_in_place = True

    def __post_init__(self) -> None:
        if self.n_unrolled is not None and self.inverse is not None:
            raise UserError(
                f"outer.n_unrolled={self.n_unrolled}: no equilibrium would be solved for, and "
                "nothing would read the method; take method=unroll, or outer.n_unrolled=null"
            )
        if self.n_unrolled is None and self.inverse is None:
            raise UserError(
                "outer.inverse=null: the gradient at an equilibrium needs an inverse method; take "
                "method=shine or another that has one, or outer.n_unrolled=N to unroll N steps"
            )

    def suited(self, task: AnyTask) -> AnyTask:
        return task

    def check(self, task: AnyTask) -> None:
        check_task(task, ("step", "time", "epoch", *OURS))
        length = self.length(task)
        if self.n_unrolled is None and length <= self.pretrain_steps:
            raise UserError(
                f"outer.pretrain_steps={self.pretrain_steps}: all {length} steps of the run "
                f"(outer.epochs={self.epochs} of {task.steps_per_epoch}) would be unrolled, and "
                f"the method, {type(self.inverse).__name__}, never used; take fewer "
                "pretrain_steps or more epochs"
            )

    def columns(self, task: AnyTask) -> tuple[str, ...]:
        return ("epoch", *task.columns, *OURS)

    def length(self, task: AnyTask) -> int:
        return self.epochs * task.steps_per_epoch

    def init(self, task: AnyTask, seed: int) -> TrainState:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = task.network(self._layer)
        layer = check_network(task, network)
        optimizer = self.optimiser(network.parameters())
        schedule = self.schedule(optimizer, self.epochs * task.steps_per_epoch)
        return TrainState(0, seed, network, layer, optimizer, schedule)

    def _layer(self, cell: nn.Module) -> DEQ:
        return DEQ(
            cell,
            self.solver,
            self.inverse,
            tol=self.tol,
            adjoint_tol=self.adjoint_tol,
            warn_unsolved=False,  # the loop counts what misses its tolerance
        )

    def load_state_dict(self, task: AnyTask, saved: dict[str, Any]) -> TrainState:
        state = self.init(task, saved["seed"])
        state.network.load_state_dict(saved["network"])
        state.optimizer.load_state_dict(saved["optimizer"])
        state.schedule.load_state_dict(saved["schedule"])
        for moments in state.optimizer.state.values():
            if "step" in moments:
                # Adam reads its step count on the CPU; on the device it would wait for it.
                moments["step"] = moments["step"].cpu()
        state.step, state.log = saved["step"], saved["log"]
        state.solves = dict(saved["solves"])
        state.unsolved_inner = saved["unsolved"]["inner"]
        state.unsolved_backward = saved["unsolved"]["backward"]
        return state

    def step(self, task: AnyTask, state: TrainState) -> TrainState:
        if state.step % task.steps_per_epoch == 0:
            state.log = {}
        state.layer.n_unrolled = self._n_unrolled(state.step)
        state.layer.last = None  # not yet called
        state.network.train()
        entries = self._differentiate(task, state, task.batch(state.seed, state.step))
        for name, value in entries.items():
            state.log.setdefault(name, []).append(value)
        if not _not_finite(state):
            state.optimizer.step()
            state.schedule.step()
        state.step += 1
        return state

    def _n_unrolled(self, step: int) -> int | None:
        """How many applications of the cell a step differentiates; None where it solves for z*."""
        return self.n_pretrain_unrolled if step < self.pretrain_steps else self.n_unrolled

    def diverged(self, state: TrainState) -> str | None:
        names = _not_finite(state)
        if not names:
            return None
        if "train_loss" in names:
            what = "the loss of the batch"
        elif (n := self._n_unrolled(state.step - 1)) is not None:
            what = f"the norm of the gradient, through {n} applications of the cell,"
        else:
            what = f"the norm of the gradient, by the method {type(self.inverse).__name__},"
        return f"{what} is {state.log[names[0]][-1]:g} at step {state.step}"

    def measure(self, task: AnyTask, state: TrainState) -> list[Row]:
        """The row of an epoch that has ended, or of a step that has diverged.

        Before the first step the untrained network is evaluated, for what is wrong there to be
        found before an epoch's work is lost. That costs one evaluation more than `epochs`; the
        spectral radius is not measured, and the numbers are not kept.
        """
        if state.step == 0:
            self._ask(task, state)
        ends_epoch = state.step > 0 and state.step % task.steps_per_epoch == 0
        if not ends_epoch and not self.diverged(state):
            return []
        measured = self._evaluate(task, state)
        means = {name: statistics.fmean(state.log[name]) for name in MEANS if name in state.log}
        medians = {name: statistics.median(state.log[name]) for name in MEDIANS}
        totals = {f"unsolved_{kind}": number for kind, number in state.unsolved.items()}
        place = {"step": state.step, "epoch": state.step / task.steps_per_epoch}
        learning_rate = float(state.schedule.get_last_lr()[0])
        return [place | measured | {"learning_rate": learning_rate} | means | totals | medians]

    def progress(self, state: TrainState) -> dict[str, str]:
        shown = (name for name in ("train_loss", "forward_residual") if name in state.log)
        return {name: f"{state.log[name][-1]:.3g}" for name in shown}

    def solution(self, task: AnyTask, state: TrainState) -> dict[str, Any]:
        return {"network": state.network.state_dict()}

    def _evaluate(self, task: AnyTask, state: TrainState) -> dict[str, float]:
        """The task's columns, and what was met in the layer meanwhile."""
        with calls_of(state.layer) as calls:
            measured = self._ask(task, state)
        if calls.n_solves == 0:
            return measured
        measured = measured | {"test_unsolved": calls.n_unsolved}
        if self.n_power_steps == 0:
            return measured
        drawn = generator(state.seed, state.step, RADIUS)
        radius = calls.spectral_radius(state.layer.cell, self.n_power_steps, drawn)
        return measured | {"spectral_radius": radius}

    def _ask(self, task: AnyTask, state: TrainState) -> dict[str, float]:
        """The task's columns."""
        state.layer.n_unrolled = self.n_unrolled
        state.network.eval()
        with torch.no_grad():
            measured = task.evaluate(state.network)
        check_measured(task, measured)
        return measured

    def _differentiate(self, task: AnyTask, state: TrainState, batch: Any) -> dict[str, float]:
        """Gradients of all parameters, and the entries of the log."""
        network, device = state.network, next(state.network.parameters()).device

        def forward() -> Tensor:
            with torch.autocast(device.type, torch.bfloat16, enabled=self.mixed_precision):
                return task.loss(network, batch)

        state.optimizer.zero_grad(set_to_none=True)
        with first_use(task, state.layer) if state.step == 0 else nullcontext():
            loss, forward_ms = _timed(forward, device)
            check_loss(task, loss)
        _, backward_ms = _timed(loss.backward, device)
        norms = [p.grad.norm() for p in network.parameters() if p.grad is not None]
        if not norms:
            raise UserError(
                f"{type(task).__name__}.loss does not depend on the network's parameters"
            )
        entries = {
            "train_loss": float(loss.detach()),
            "gradient_norm": float(torch.stack(norms).norm()),
            "forward_ms": forward_ms,
            "backward_ms": backward_ms,
        }
        report = state.layer.last
        if report is None:
            return entries
        state.count_inner(report.converged)
        if report.backward_converged is not None:
            state.count_backward(report.backward_converged)
        return entries | _log_of(report)


def _not_finite(state: TrainState) -> list[str]:
    """The entries of the last step that are not finite, and must be."""
    return [name for name in FINITE if name in state.log and not math.isfinite(state.log[name][-1])]


def _log_of(report: Report) -> dict[str, float]:
    entries = {
        "inner_residual": float(report.inner_residual.median()),
        "forward_residual": float(report.forward_residual.median()),
        "converged": float(report.converged.float().mean()),
        "forward_steps": float(report.steps),
        "evals": float(report.evals),
        "products": float(report.products),
    }
    if report.backward_residual is not None:
        entries["backward_residual"] = float(report.backward_residual.median())
    if report.fell_back is not None:
        entries["fell_back"] = float(report.fell_back.float().mean())
    return entries


def _timed(function: Callable[[], T], device: torch.device) -> tuple[T, float]:
    """The answer and the milliseconds until the device has it."""
    _synchronise(device)
    start = time.perf_counter()
    answer = function()
    _synchronise(device)
    return answer, 1000 * (time.perf_counter() - start)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
