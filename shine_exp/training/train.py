"""Training of a deep equilibrium network: Adam on the hypergradients of batches."""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn.functional import cross_entropy

from shine_exp.deq.report import Report
from shine_exp.loop import Row
from shine_exp.randomness import generator
from shine_exp.solvers.iterates import RootFunction
from shine_exp.training.images.augment import crop_and_flip
from shine_exp.training.images.image_classification import ImageClassification
from shine_exp.training.images.mdeq import MDEQ
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
PADDING = 4  # pixels, of the crops
EPOCH = 1  # of the two streams of random numbers: the order of an epoch, and what a step draws
T = TypeVar("T")
Log = dict[str, list[float]]  # a number per step of the epoch


@dataclass
class TrainState:
    """The network and its optimiser after `step` steps, and the log of the epoch; a step changes
    it in place.

    There is no random state: what is random at a step follows from the seed and the number of the
    step. The samples whose forward or backward solve missed its tolerance are counted over all
    steps, on the device.
    """

    step: int
    seed: int
    network: MDEQ
    optimizer: torch.optim.Adam
    schedule: torch.optim.lr_scheduler.CosineAnnealingLR
    log: Log = field(default_factory=dict)
    unsolved_inner: Tensor | int = 0
    unsolved_backward: Tensor | int = 0
    rows: list[dict[str, float | int | str]] = field(
        default_factory=list
    )  # of a study, at this step

    @property
    def unsolved(self) -> dict[str, int]:
        return {"inner": int(self.unsolved_inner), "backward": int(self.unsolved_backward)}

    def count(self, last: Report) -> None:
        """Add what a step's solves missed."""
        self.unsolved_inner = self.unsolved_inner + (~last.converged).sum()
        if last.backward_converged is not None:
            self.unsolved_backward = self.unsolved_backward + (~last.backward_converged).sum()

    def as_dict(self) -> dict[str, Any]:
        parts = {
            name: getattr(self, name).state_dict() for name in ("network", "optimizer", "schedule")
        }
        return {
            "step": self.step,
            "seed": self.seed,
            "log": self.log,
            "unsolved": self.unsolved,
            **parts,
        }


@dataclass(frozen=True)
class Train:
    """`epochs` of Adam with a learning rate that falls along a cosine at every step (Ramzi et al.
    2022, appendix D).

    The first `pretrain_steps` differentiate through `n_pretrain_unrolled` applications of the
    cell; then the equilibrium is solved, and differentiated by `inverse`, or, with `n_unrolled`,
    never. `augment` crops and flips. `mixed_precision` trains the network, but not the solver's
    vectors, in bfloat16. The trace has a row per epoch: means over its steps (residuals are
    medians over each batch), median milliseconds of the network's forward pass with the loss, and
    of its backward pass. `unsolved_inner` and `unsolved_backward` count the samples of all steps
    so far whose solve missed its tolerance, and `test_unsolved` those of the test set.
    `spectral_radius` is the median ρ(∂f/∂z) at the equilibrium over a batch of test images, by
    `n_power_steps` of the power method (0: not measured).
    """

    solver: Solver[RootFunction]
    inverse: InverseMethod | None
    opa: PositiveInt | None
    n_unrolled: PositiveInt | None
    epochs: PositiveInt
    batch_size: PositiveInt
    pretrain_steps: NonNegativeInt
    n_pretrain_unrolled: PositiveInt
    learning_rate: PositiveFloat
    final_learning_rate: NonNegativeFloat
    augment: bool
    mixed_precision: bool
    n_power_steps: NonNegativeInt

    problem_type = ImageClassification
    needs_gradient = True
    changes_in_place = True
    keeps_state = True  # the trained network
    columns = (
        "epoch",
        "test_loss",
        "accuracy",
        "test_unsolved",
        "spectral_radius",
        "learning_rate",
        *MEANS,
        *TOTALS,
        *MEDIANS,
    )

    def length(self, problem: ImageClassification) -> int:
        return self.epochs * self.epoch_length(problem)

    def epoch_length(self, problem: ImageClassification) -> int:
        """Steps in an epoch; a last batch that is not full is left out, unless it is the only one."""
        return max(1, len(problem.images.train.labels) // self.batch_size)

    def begin(self, problem: ImageClassification, seed: int) -> TrainState:
        network = problem.network(self.solver, self.inverse, self.opa, seed)
        optimizer = torch.optim.Adam(network.parameters(), lr=self.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            optimizer, max(1, self.length(problem)), eta_min=self.final_learning_rate
        )
        return TrainState(0, seed, network, optimizer, schedule)

    def restore(self, problem: ImageClassification, saved: dict[str, Any]) -> TrainState:
        state = self.begin(problem, saved["seed"])
        for name in ("network", "optimizer", "schedule"):
            getattr(state, name).load_state_dict(saved[name])
        for of_parameter in state.optimizer.state.values():
            of_parameter["step"] = of_parameter[
                "step"
            ].cpu()  # where Adam reads it without waiting for the device
        state.step, state.log = saved["step"], saved["log"]
        state.unsolved_inner, state.unsolved_backward = (
            saved["unsolved"]["inner"],
            saved["unsolved"]["backward"],
        )
        return state

    def advance(self, problem: ImageClassification, state: TrainState) -> TrainState:
        if state.step % self.epoch_length(problem) == 0:
            state.log = {}
        state.network.train()
        entries = self._differentiate(problem, state, *self._batch(problem, state))
        for name, value in entries.items():
            state.log.setdefault(name, []).append(value)
        if not self.diverged(state):
            state.optimizer.step()
        state.schedule.step()
        state.step += 1
        return state

    def diverged(self, state: TrainState) -> bool:
        return not all(math.isfinite(state.log[name][-1]) for name in FINITE if name in state.log)

    def measure(self, problem: ImageClassification, state: TrainState) -> list[Row]:
        if state.step == 0 or (
            state.step % self.epoch_length(problem) and not self.diverged(state)
        ):
            return []
        measured = problem.evaluate(state.network, self.n_unrolled)
        means = {name: statistics.fmean(state.log[name]) for name in MEANS if name in state.log}
        medians = {name: statistics.median(state.log[name]) for name in MEDIANS}
        epoch = state.step / self.epoch_length(problem)
        row: dict[str, float | int | str] = {
            "step": state.step,
            "epoch": epoch,
            "test_loss": measured.loss,
            "accuracy": measured.accuracy,
            **({} if measured.unsolved is None else {"test_unsolved": measured.unsolved}),
            "learning_rate": float(state.schedule.get_last_lr()[0]),
            **means,
            **{f"unsolved_{kind}": number for kind, number in state.unsolved.items()},
            **medians,
        }
        if self.n_power_steps and self.n_unrolled is None:
            row["spectral_radius"] = problem.spectral_radius(state.network, self.n_power_steps)
        return [row]

    def progress(self, state: TrainState) -> dict[str, str]:
        return {
            name: f"{state.log[name][-1]:.3g}"
            for name in ("train_loss", "forward_residual")
            if name in state.log
        }

    def _batch(
        self, problem: ImageClassification, state: TrainState
    ) -> tuple[Tensor, Tensor, torch.Generator]:
        """Images and labels of this step, and the generator that made them, for what else is
        random.
        """
        epoch, place = divmod(state.step, self.epoch_length(problem))
        shuffled = generator(state.seed, epoch, EPOCH)
        order = torch.randperm(len(problem.images.train.labels), generator=shuffled)
        images, labels = problem.batch(
            order[place * self.batch_size : (place + 1) * self.batch_size]
        )
        drawn = generator(state.seed, state.step)
        return crop_and_flip(images, PADDING, drawn) if self.augment else images, labels, drawn

    def _differentiate(
        self,
        problem: ImageClassification,
        state: TrainState,
        images: Tensor,
        labels: Tensor,
        drawn: torch.Generator,
    ) -> dict[str, float]:
        """Gradients of all parameters, and the entries of the log."""
        network = state.network
        n_unrolled = (
            self.n_pretrain_unrolled if state.step < self.pretrain_steps else self.n_unrolled
        )

        def criterion(logits: Tensor) -> Tensor:
            return cross_entropy(logits, labels)

        def forward() -> Tensor:
            with torch.autocast(images.device.type, torch.bfloat16, enabled=self.mixed_precision):
                logits = network(
                    images, criterion=criterion, n_unrolled=n_unrolled, generator=drawn
                )
                return criterion(logits)

        state.optimizer.zero_grad(set_to_none=True)
        loss, forward_ms = _timed(forward, images.device)
        _, backward_ms = _timed(loss.backward, images.device)
        norms = [p.grad.norm() for p in network.parameters() if p.grad is not None]
        entries = {
            "train_loss": float(loss.detach()),
            "gradient_norm": float(torch.stack(norms).norm()),
            "forward_ms": forward_ms,
            "backward_ms": backward_ms,
        }
        if n_unrolled is not None:
            return entries
        state.count(network.equilibrium.last)
        return entries | _log_of(network.equilibrium.last)


def _log_of(last: Report) -> dict[str, float]:
    entries = {
        "inner_residual": float(last.inner_residual.median()),
        "forward_residual": float(last.forward_residual.median()),
        "converged": float(last.converged.float().mean()),
        "forward_steps": float(last.steps),
        "evals": float(last.evals),
        "products": float(last.products),
    }
    if last.backward_residual is not None:
        entries["backward_residual"] = float(last.backward_residual.median())
    if last.fell_back is not None:
        entries["fell_back"] = float(last.fell_back.float().mean())
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
