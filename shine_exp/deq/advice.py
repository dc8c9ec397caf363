"""What a layer warns of: solves that missed their tolerance, and cells that are no functions."""

import math
import sys
import warnings
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from shine_exp.deq.report import Report
from shine_exp.types import Adjoint


class ConvergenceWarning(UserWarning):
    """A forward or backward solve of a layer missed its tolerance."""


class CellWarning(UserWarning):
    """A cell that is no function of each sample's z and inputs."""


class Advice:
    """Gives each warning of a layer once; a copy of it, as in another process, starts anew."""

    def __init__(self, layer: str) -> None:
        self._layer = layer
        self._given: set[str] = set()

    def __reduce__(self) -> tuple[type["Advice"], tuple[str]]:
        return Advice, (self._layer,)

    def was_given(self, about: str) -> bool:
        return about in self._given

    def give(self, about: str, category: type[Warning], message: Callable[[], str]) -> None:
        """`message` is made, which may wait for the device, only where it is given."""
        if not self.was_given(about):
            self._given.add(about)
            text = f"{self._layer}: {message()}"
            warnings.warn(text, category, stacklevel=_level_of_the_caller())


def on_cell(cell: nn.Module, advice: Advice) -> None:
    """Warns of dropout and of batch statistics, in the mode that the cell is in."""
    for name, module in cell.named_modules():
        if _is_random(module):
            advice.give("dropout", CellWarning, partial(_of_dropout, name, module))
        elif isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
            advice.give("statistics", CellWarning, partial(_of_batch_statistics, name, module))


def _is_random(module: nn.Module) -> bool:
    if not module.training:
        return False
    if isinstance(module, _DropoutNd):
        return module.p > 0
    if isinstance(module, nn.MultiheadAttention | nn.RNNBase):
        return module.dropout > 0
    return isinstance(module, nn.RReLU)


def _of_dropout(name: str, module: nn.Module) -> str:
    return (
        f"the cell's {type(module).__name__} ({name}) draws anew in every evaluation, and an "
        "equilibrium needs one f: draw a mask outside the cell and pass it as an input, "
        "or call cell.eval()"
    )


def _of_batch_statistics(name: str, module: nn.Module) -> str:
    return (
        f"the cell's {type(module).__name__} ({name}) uses statistics of the batch, which couple "
        "its samples, and a DEQ layer solves and differentiates each sample by itself: "
        "take GroupNorm or LayerNorm, or call cell.eval()"
    )


def of_forward_solve(report: Report, tol: float, solver: str, z: Tensor, image: Tensor) -> str:
    """What was reached, and what to do; `image` is f(z) evaluated again."""
    again = (z - image).norm(dim=-1) / math.sqrt(z.shape[-1])
    worst = float(report.inner_residual.max())
    missed = int((~report.converged).sum())
    return (
        f"{missed} of {len(z)} samples missed tol={tol:g}: residual {worst:.2g} (‖z − f(z)‖ / √d) "
        f"after {report.steps} steps of {solver}. {_advice_on_forward_solve(report, z, again)}"
    )


def _advice_on_forward_solve(report: Report, z: Tensor, again: Tensor) -> str:
    first = report.inner_residual
    rounding = 100 * torch.finfo(z.dtype).eps * z.norm(dim=-1) / math.sqrt(z.shape[-1])
    differs = (again - first).abs() > 0.01 * first + rounding
    if bool(differs.any()):
        i = int(differs.int().argmax())
        return (
            f"The cell gave residual {float(first[i]):.3g}, then {float(again[i]):.3g} at the same "
            "z: it must be a function of z and its inputs; what is random is drawn outside and "
            "passed as an input"
        )
    if not bool(report.converged.any()) and float(report.forward_residual.max()) > 0.1:
        return (
            "None came close: the cell may expand (spectral radius of ∂f/∂z above 1), so scale its "
            "weights down; else take more steps"
        )
    return (
        "Take more steps (max_steps), or a looser tol: outputs and gradients are off by about as "
        "much"
    )


def of_backward_solve(adjoint: Adjoint, residual: Tensor, tol: float, inverse: str) -> str:
    """What was reached, and what to do."""
    assert adjoint.converged is not None
    missed, worst = int((~adjoint.converged).sum()), float(residual.max())
    n_fell_back = 0 if adjoint.fell_back is None else int(adjoint.fell_back.sum())
    fell_back = f", and {n_fell_back} fell back to u = r" if n_fell_back else ""
    return (
        f"{missed} of {len(residual)} samples missed the tolerance of the backward solve: residual "
        f"{worst:.2g} (‖Jᵀu − r‖ / ‖r‖, adjoint_tol={tol:g}) after {adjoint.n_products} "
        f"products of {inverse}{fell_back}. "
        "Take more steps (max_steps), or a looser adjoint_tol: gradients are off by about as much"
    )


def _level_of_the_caller() -> int:
    """The stack level, for `warnings.warn`, of the first frame outside the layer and PyTorch."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals.get("__name__", "").startswith((__package__, "torch.")):
        frame, level = frame.f_back, level + 1
    return level
