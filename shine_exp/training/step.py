"""One step of a training: forward pass and loss, backward pass, update by the optimiser."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from shine_exp.acceleration import Choice
from shine_exp.deq.captured import Captured
from shine_exp.deq.layer import DEQ
from shine_exp.deq.report import Report
from shine_exp.errors import UserError, one_line
from shine_exp.processes import processes
from shine_exp.training.batch_loss import batch_loss
from shine_exp.training.laps import Laps
from shine_exp.training.precision import Precision, autocast, precision
from shine_exp.training.task import Task
from shine_exp.training.task_checks import check_loss, first_use


class CaptureWarning(UserWarning):
    """A step that was to be a CUDA graph, and cannot be one."""


Found = dict[str, Tensor]  # numbers of a step, on the device


@dataclass(frozen=True)
class Numbers:
    """What a step gives for the log: what was `found` on the device, and what is `known` here."""

    found: Found
    known: dict[str, float]
    laps: Laps | None

    @property
    def times(self) -> dict[str, float]:
        """Milliseconds; none of a step from a CUDA graph, which has no place for a clock."""
        if self.laps is None:
            return {}
        return dict(zip(("forward_ms", "backward_ms"), self.laps.milliseconds(), strict=True))


class TrainingStep:
    """w ← w − update(∇L), where L is the loss of a batch and its gradient by the layer's method.

    Nothing in it waits for the device, if nothing in the task's loss does. Where the loss or the
    norm of the gradient is not finite, the network stays as it is, from then on: `finite` is kept
    on the device. With `graph` "on", or "auto" on a GPU, all of it is one CUDA graph
    (`deq.captured.Captured`), if one process makes it. Several share the batch, and all numbers but
    the times are of all of it (`batch_loss.SharedLoss`).

    The optimiser is one of PyTorch's that are fused: it makes its update in one kernel, which
    does nothing where `found_inf` says so.
    """

    def __init__(
        self,
        network: nn.Module,
        layer: DEQ,
        optimizer: torch.optim.Optimizer,
        name: Precision,
        graph: Choice = "off",
        compiled: bool = False,
    ) -> None:
        self.network, self.layer, self.optimizer = network, layer, optimizer
        self.loss = batch_loss(network)
        self.device = next(network.parameters()).device
        self.precision, self.compiled = name, compiled
        pays = self.device.type == "cuda" and processes().n == 1
        self.graph = graph == "on" or (graph == "auto" and pays)
        self._otherwise = self._go_on if graph == "auto" else None
        self.finite = torch.ones((), dtype=torch.bool, device=self.device)
        self._rates = [
            torch.zeros((), dtype=torch.float32, device=self.device) for _ in optimizer.param_groups
        ]
        self._captured: dict[tuple[int, int | None], Captured] = {}
        self._is_first = True

    def __call__(self, task: Task, batch: Any) -> Numbers:
        """Train on a batch of the task: the network and the optimiser are changed in place."""
        rate = float(self.optimizer.param_groups[0]["lr"])
        with precision(self.precision), _compilation() if self.compiled else nullcontext():
            if self.graph:
                found, known = self._replayed(task, batch)
                laps = None
            else:
                laps = Laps(self.device)
                found, known = self._make(task, batch, laps.mark)
        self._is_first = False
        return Numbers(found, known | {"rate": rate}, laps)

    def _replayed(self, task: Task, batch: Any) -> tuple[Found, dict[str, float]]:
        for rate, group in zip(self._rates, self.optimizer.param_groups, strict=True):
            rate.fill_(group["lr"])
        key = (id(task), self.layer.n_unrolled)
        if key not in self._captured:  # the graph of the steps before is done with, and is large
            self._captured = {
                key: Captured(partial(self._make, task), self._otherwise, self.device)
            }
        with self._rates_on_device():
            found, known = self._captured[key](batch)
        return {name: value.clone() for name, value in found.items()}, known

    def _go_on(self, why: str) -> None:
        """Without a graph."""
        self.graph = False
        warnings.warn(f"{why}; the training goes on without one", CaptureWarning, stacklevel=2)

    @contextmanager
    def _rates_on_device(self) -> Iterator[None]:
        """A learning rate that is a number would be a constant of the graph."""
        groups = self.optimizer.param_groups
        numbers = [group["lr"] for group in groups]
        for group, rate in zip(groups, self._rates, strict=True):
            group["lr"] = rate
        try:
            yield
        finally:
            for group, number in zip(groups, numbers, strict=True):
                group["lr"] = number

    def _make(
        self, task: Task, batch: Any, mark: Callable[[], None] = lambda: None
    ) -> tuple[Found, dict[str, float]]:
        """The step, with a mark before, between and after its two passes."""
        self.layer.last = None  # not yet called
        self.optimizer.zero_grad(set_to_none=True)
        mark()
        with first_use(task, self.layer) if self._is_first else nullcontext():
            with autocast(self.precision, self.device):
                loss = self.loss(task, batch)
            check_loss(task, loss)
        mark()
        self.loss.backward(loss)
        mark()
        norms = [p.grad.norm() for p in self.network.parameters() if p.grad is not None]
        if not norms:
            raise UserError(
                f"{type(task).__name__}.loss does not depend on the network's parameters"
            )
        norm = torch.stack(norms).norm()
        total = self.loss.total(loss)
        self._update(total, norm)
        found, known = of_report(self.loss.whole(self.layer.last))
        found |= {"train_loss": total, "gradient_norm": norm}
        return {name: value.double() for name, value in found.items()}, known

    def _update(self, loss: Tensor, norm: Tensor) -> None:
        self.finite.logical_and_(loss.isfinite() & norm.isfinite())
        # As a GradScaler tells an optimiser that a gradient is not to be used.
        self.optimizer.found_inf = (~self.finite).float()  # type: ignore[attr-defined]
        self.optimizer.step()


@contextmanager
def _compilation() -> Iterator[None]:
    """Raises `UserError` where a cell cannot be compiled, as where there is no compiler."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        raise UserError(
            f"the cell cannot be compiled ({one_line(error)}); take runtime.compile=off"
        ) from error


def prepare(optimizer: torch.optim.Optimizer) -> None:
    """Make one of PyTorch's optimisers fused, and on a GPU fit for a CUDA graph."""
    for group in optimizer.param_groups:
        group["foreach"], group["fused"] = False, True
        if "capturable" in group:
            group["capturable"] = group["params"][0].device.type == "cuda"
    for parameter, moments in optimizer.state.items():
        if "step" in moments:  # which one that is not fused keeps on the CPU
            moments["step"] = moments["step"].to(parameter.device)


def of_report(report: Report | None) -> tuple[Found, dict[str, float]]:
    """What the layer's solves give for the log: on the device, and known here."""
    if report is None:
        return {}, {}
    found = {
        "inner_residual": report.inner_residual.median(),
        "forward_residual": report.forward_residual.median(),
        "converged": report.converged.float().mean(),
        "missed_inner": (~report.converged).sum(),
    }
    known: dict[str, float] = {
        "forward_steps": report.steps,
        "evals": report.evals,
        "products": report.products,
        "solves_inner": len(report.converged),
    }
    if report.backward_residual is not None:
        found["backward_residual"] = report.backward_residual.median()
    if report.fell_back is not None:
        found["fell_back"] = report.fell_back.float().mean()
    if report.backward_converged is not None:
        found["missed_backward"] = (~report.backward_converged).sum()
        known["solves_backward"] = len(report.backward_converged)
    return found, known
