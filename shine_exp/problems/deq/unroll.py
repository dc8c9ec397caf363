"""A cell applied a fixed number of times, differentiated as it is."""

from collections.abc import Callable

from torch import Tensor

from shine_exp.problems.deq.state import State

Cell = Callable[..., Tensor | list[Tensor]]  # cell(z, *inputs) → the next z


def unroll(cell: Cell, z0: State, *inputs: Tensor, n_steps: int) -> State:
    """z_n of z_{k+1} = cell(z_k, *inputs). Memory grows with the number of steps."""
    z = z0
    for _ in range(n_steps):
        z = cell(z, *inputs)
    return z
