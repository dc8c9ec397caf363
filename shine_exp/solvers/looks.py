"""How often a solver looks at what its device has found: each look waits for all work before it."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

# On an accelerator a look costs more than the few steps that it may come too late for.
STEPS_BETWEEN_LOOKS = 6
_fixed: ContextVar[bool] = ContextVar("fixed", default=False)


@contextmanager
def fixed_steps(fixed: bool = True) -> Iterator[None]:
    """Within the block solvers make all their steps, and look at nothing.

    Samples that are done stand still, so that the answers are those of a solver that stops early;
    only the counts of steps and evaluations are those of all steps. A CUDA graph needs this: it
    can neither wait nor branch.
    """
    token = _fixed.set(fixed)
    try:
        yield
    finally:
        _fixed.reset(token)


def steps_are_fixed() -> bool:
    """Whether solvers make all their steps, as within `fixed_steps`."""
    return _fixed.get()


def steps_between_looks(device: torch.device) -> int | None:
    """After so many steps a solver looks whether any sample is still active; None: never."""
    if steps_are_fixed():
        return None
    return 1 if device.type == "cpu" else STEPS_BETWEEN_LOOKS
