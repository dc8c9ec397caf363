"""Training of a network with an equilibrium layer, by the hypergradients of batches."""

import statistics
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import nn

from shine_exp.acceleration import Choice, acceleration
from shine_exp.deq.layer import DEQ
from shine_exp.errors import UserError
from shine_exp.loop import Row
from shine_exp.processes import processes
from shine_exp.randomness import generator
from shine_exp.solvers.iterates import RootFunction
from shine_exp.training.batch_loss import with_shared_statistics
from shine_exp.training.jacobian_penalty import JacobianPenalty
from shine_exp.training.layer_calls import calls_of
from shine_exp.training.optimisers import Optimiser
from shine_exp.training.precision import Precision
from shine_exp.training.schedules import Schedule
from shine_exp.training.state import TrainState
from shine_exp.training.step import TrainingStep, prepare
from shine_exp.training.task import Task
from shine_exp.training.task_checks import (
    check_measured,
    check_network,
    check_task,
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
TOTALS = ("unsolved_inner", "unsolved_backward")
OURS = ("test_unsolved", "spectral_radius", "learning_rate", *MEANS, *TOTALS, *MEDIANS)
STEPS_BETWEEN_READS = 20  # of the log, on a GPU, which Python may be ahead of by so many
STEPS_THAT_PAY = 3000  # for the 20 to 55 s that compiling a cell takes on a GPU
RADIUS = 2  # the stream of random numbers that the power method starts from
AnyTask = TypeVar("AnyTask", bound=Task)


@dataclass(frozen=True)
class Train(Generic[AnyTask]):
    """`epochs` of `optimiser`, whose learning rate `schedule` changes at every step.

    The first `pretrain_steps` differentiate through `n_pretrain_unrolled` applications of the
    cell. Then the equilibrium is solved by `solver` to `tol` and differentiated by `inverse` to
    `adjoint_tol`, as `shine_exp.deq.DEQ` says; or, with `n_unrolled`, never.
    `jacobian_weight` is that of `JacobianPenalty`, with which a solver needs fewer steps and any
    cheap inverse method is more accurate (0: no penalty). `train_loss` is without it.
    `precision` is that of the network in training, not of the solver's vectors: "float32"; "tf32",
    in which a GPU's convolutions round their factors to 10 bits; or "bfloat16". The evaluation is
    in float32.

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
    jacobian_weight: NonNegativeFloat
    precision: Precision
    n_power_steps: NonNegativeInt

    problem_type: ClassVar[type] = Task
    needs_gradient = True
    changes_in_place = True
    shares_batches = True

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
        if processes().n > 1:
            task.share(task.batch(0, 0), processes())
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
        network = with_shared_statistics(network, getattr(self.solver, "opa", None))
        optimizer = self.optimiser(network.parameters())
        prepare(optimizer)
        schedule = self.schedule(optimizer, self.length(task))
        chosen = acceleration()
        compiled = self._compiles(chosen.compile, task, network)
        if compiled:
            # The cell alone: the solver's loop would be compiled for every number of steps.
            layer.cell.compile(dynamic=False)
        step = TrainingStep(network, layer, optimizer, self.precision, chosen.graph, compiled)
        penalty = JacobianPenalty(layer, self.jacobian_weight) if self.jacobian_weight else None
        return TrainState(0, seed, network, layer, optimizer, schedule, step, penalty)

    def _compiles(self, choice: Choice, task: AnyTask, network: nn.Module) -> bool:
        if self.jacobian_weight:
            if choice == "on":
                raise UserError(
                    f"outer.jacobian_weight={self.jacobian_weight}: its gradient passes the cell "
                    "twice, which a compiled cell does not allow; take runtime.compile=auto"
                )
            return False
        if choice != "auto":
            return choice == "on"
        on_gpu = next(network.parameters()).device.type == "cuda"
        return on_gpu and self.length(task) >= STEPS_THAT_PAY

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
        prepare(state.optimizer)  # one that was saved may have been prepared for another device
        state.step, state.log = saved["step"], saved["log"]
        state.solves, state.missed = dict(saved["solves"]), dict(saved["unsolved"])
        if state.not_finite:
            # Found only as this was saved. The network has not moved, and the step is made again.
            state.step -= 1
        return state

    def step(self, task: AnyTask, state: TrainState) -> TrainState:
        n_steps = task.steps_per_epoch
        if state.step % n_steps == 0:
            state.log = {}
        state.layer.n_unrolled = self._n_unrolled(state.step)
        state.network.train()
        batch = task.batch(state.seed, state.step)
        if state.penalty is not None:
            state.penalty.draw(state.seed, state.step)
        state.unread.append(state.training_step(task, batch))
        state.schedule.step()
        state.step += 1
        # Read here and not in `measure`: to wait for the device is a part of the run's time.
        is_due = state.step % n_steps == 0 or state.step % STEPS_BETWEEN_READS == 0
        if is_due or reads_at_once(state.training_step.device):
            state.read()
        return state

    def _n_unrolled(self, step: int) -> int | None:
        """How many applications of the cell a step differentiates; None where it solves for z*."""
        return self.n_pretrain_unrolled if step < self.pretrain_steps else self.n_unrolled

    def diverged(self, state: TrainState) -> str | None:
        names = state.not_finite
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
        medians = {
            name: statistics.median(state.log[name]) for name in MEDIANS if name in state.log
        }
        totals = {f"unsolved_{kind}": number for kind, number in state.unsolved.items()}
        place = {"step": state.step, "epoch": state.step / task.steps_per_epoch}
        # That of the next step; where there is none, that of the step that has diverged.
        ended = state.not_finite
        learning_rate = state.log["rate"][-1] if ended else float(state.schedule.get_last_lr()[0])
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


def reads_at_once(device: torch.device) -> bool:
    """Whether it costs nothing to read what a step has found as soon as it has been made."""
    return device.type == "cpu"
