"""Autocast inside a layer."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def full_precision(device: str) -> AbstractContextManager[object]:
    """For solvers and inverse methods, whose inner products need it."""
    if not torch.amp.is_autocast_available(device):
        return nullcontext()
    return torch.autocast(device, dtype=torch.get_autocast_dtype(device), enabled=False)


def in_present_precision(f: Callable[[Tensor], Tensor], device: str) -> Callable[[Tensor], Tensor]:
    """f under the autocast that is on now, wherever it is called.

    Without autocast's cache of weights: those cast without a graph, in the solver, would lose the
    gradient later.
    """
    if not torch.amp.is_autocast_available(device):
        return f
    enabled, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

    def at(z: Tensor) -> Tensor:
        with torch.autocast(device, dtype=dtype, enabled=enabled, cache_enabled=False):
            return f(z)

    return at
