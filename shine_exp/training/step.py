"""One step of a training: forward pass and loss, backward pass, step of the optimiser."""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor

from shine_exp.deq.report import Report
from shine_exp.errors import UserError
from shine_exp.training.state import TrainState
from shine_exp.training.task import Task
from shine_exp.training.task_checks import check_loss, first_use

FINITE = ("train_loss", "gradient_norm")
T = TypeVar("T")


def take_step(task: Task, state: TrainState, batch: Any, *, mixed_precision: bool) -> None:
    """Train on a batch: the network, the optimiser, its schedule and the log are changed in place.

    Where the loss or the norm of the gradient is not finite, the network stays as it is.
    """
    entries = differentiate(task, state, batch, mixed_precision=mixed_precision)
    for name, value in entries.items():
        state.log.setdefault(name, []).append(value)
    if not not_finite(state):
        state.optimizer.step()
        state.schedule.step()


def differentiate(
    task: Task, state: TrainState, batch: Any, *, mixed_precision: bool
) -> dict[str, float]:
    """Gradients of all parameters, and the entries of the log."""
    network, device = state.network, next(state.network.parameters()).device

    def forward() -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed_precision):
            return task.loss(network, batch)

    state.optimizer.zero_grad(set_to_none=True)
    with first_use(task, state.layer) if state.step == 0 else nullcontext():
        loss, forward_ms = _timed(forward, device)
        check_loss(task, loss)
    _, backward_ms = _timed(loss.backward, device)
    norms = [p.grad.norm() for p in network.parameters() if p.grad is not None]
    if not norms:
        raise UserError(f"{type(task).__name__}.loss does not depend on the network's parameters")
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


def not_finite(state: TrainState) -> list[str]:
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
