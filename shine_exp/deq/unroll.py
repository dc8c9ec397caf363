"""A cell applied a fixed number of times, differentiated as it is."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

Cell = Callable[..., Tensor | list[Tensor]]  # cell(z, *inputs, **named) → the next z


def unroll(
    cell: Cell, z0: Tensor | list[Tensor], *inputs: Any, n_steps: int, **named: Any
) -> Tensor | list[Tensor]:
    """z_n of z_{k+1} = cell(z_k, *inputs, **named), n = `n_steps`.

    Where gradients are enabled, memory grows with the number of steps.
    """
    z = z0
    for _ in range(n_steps):
        z = cell(z, *inputs, **named)
    return z
