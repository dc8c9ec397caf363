"""A cell applied a fixed number of times, differentiated as it is."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from shine_exp.deq.state import State

Cell = Callable[..., Tensor | list[Tensor]]  # cell(z, *inputs, **named) → the next z


def unroll(cell: Cell, z0: State, *inputs: Any, n_steps: int, **named: Any) -> State:
    """z_n of z_{k+1} = cell(z_k, *inputs, **named). Memory grows with the number of steps."""
    z = z0
    for _ in range(n_steps):
        z = cell(z, *inputs, **named)
    return z
