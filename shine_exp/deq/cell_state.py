"""The state of a cell: what may be one, and what it is in words."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from shine_exp.errors import UserError

CellState = Tensor | Sequence[Tensor]  # z of a cell f(z, x), each tensor (batch, …)
FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def tensors_of(z0: Any) -> tuple[Tensor, ...]:
    """The tensors of a state.

    Raises `UserError` for anything else, for other than floating-point numbers, a missing batch
    axis, several batches.
    """
    tensors = (z0,) if isinstance(z0, Tensor) else tuple(z0) if isinstance(z0, list | tuple) else ()
    if not tensors or not all(isinstance(t, Tensor) for t in tensors):
        raise UserError(
            f"z0 is {described(z0)}: take a tensor or a list of tensors, each (batch, …)"
        )
    for t in tensors:
        if t.dtype not in FLOATS:
            raise UserError(
                f"z0 is {described(z0)}: iterates are floating-point numbers, take z0.float()"
            )
        if t.ndim < 2:
            raise UserError(
                f"z0 is {described(z0)} and lacks a batch axis, (batch, …): take z0[None] for one "
                "sample, z0[:, None] for one number per sample"
            )
    if len({len(t) for t in tensors}) > 1:
        raise UserError(f"z0 is {described(z0)}: its tensors need one batch, (batch, …) each")
    return tensors


def described(state: Any) -> str:
    """The type and shape of a tensor, of each in a list, and of anything else its class."""
    if isinstance(state, Tensor):
        return f"{short(state.dtype)} {tuple(state.shape)}"
    if isinstance(state, list | tuple):
        return f"[{', '.join(map(described, state))}]"
    return f"a {type(state).__name__}"


def short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
