"""The state z of a cell, one tensor or several, as one vector per sample."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from shine_exp.deq.cell_call import check_call
from shine_exp.deq.cell_state import FLOATS, CellState, described, short, tensors_of
from shine_exp.errors import UserError, one_line


@dataclass(frozen=True)
class Flattening:
    """The shapes and types of a state, to go from it to vectors (batch, d) and back.

    A 4-d tensor in channels-last memory is flattened in that order, so that neither way moves
    its elements. The vectors have the longest floating-point type among the state's tensors, and at
    least float32, which is more than a state has under autocast. On the way back each tensor gets
    its own type again.
    """

    batch: int
    shapes: tuple[torch.Size, ...]  # of a sample
    dtypes: tuple[torch.dtype, ...]
    channels_last: tuple[bool, ...]
    single: bool

    @staticmethod
    def of(z: CellState) -> "Flattening":
        """That of states like z. Raises `UserError` for what is no state."""
        tensors = tensors_of(z)
        return Flattening(
            len(tensors[0]),
            tuple(t.shape[1:] for t in tensors),
            tuple(t.dtype for t in tensors),
            tuple(t.ndim == 4 and _is_channels_last(t) for t in tensors),
            isinstance(z, Tensor),
        )

    @property
    def dtype(self) -> torch.dtype:
        """That of the vectors."""
        return reduce(torch.promote_types, self.dtypes, torch.float32)

    def flatten(self, z: CellState) -> Tensor:
        """The state as vectors (batch, d)."""
        tensors = (z,) if isinstance(z, Tensor) else z
        parts = [
            (t.permute(0, 2, 3, 1) if last else t).flatten(1)
            for t, last in zip(tensors, self.channels_last, strict=True)
        ]
        v = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        return v.to(self.dtype)

    def unflatten(self, v: Tensor) -> Tensor | list[Tensor]:
        """The vectors (batch, d) as a state."""
        sizes = [math.prod(shape) for shape in self.shapes]
        # The backward pass of a split is a copy, which a single tensor is spared.
        parts = (v,) if len(sizes) == 1 else v.split(sizes, dim=1)
        tensors = [
            _unflattened(part.to(dtype), shape, last)
            for part, dtype, shape, last in zip(
                parts, self.dtypes, self.shapes, self.channels_last, strict=True
            )
        ]
        return tensors[0] if self.single else tensors

    def on_vectors(
        self, cell: Callable[..., CellState], *inputs: Any, **named: Any
    ) -> Callable[[Tensor], Tensor]:
        """z ↦ cell(z, *inputs, **named) on vectors (batch, d).

        Raises `UserError` where the cell returns no state like z, changes z in place, takes other
        inputs, or fails where an input has another batch than z, or its parameters another type or
        device.
        """
        name = f"the cell {type(cell).__name__}"

        def at(v: Tensor) -> Tensor:
            changes = _changes(v)
            try:
                state = cell(self.unflatten(v), *inputs, **named)
            except (RuntimeError, ValueError) as error:
                clash = self._clash(cell, v.device, inputs, named)
                if not clash or isinstance(error, torch.OutOfMemoryError):
                    raise
                raise UserError(f"{name} fails: {clash} ({one_line(error)})") from error
            except TypeError as error:
                check_call(cell, inputs, named, error)
                raise
            if not self._fits(state):
                advice = (
                    self._clash(cell, v.device, inputs, named)
                    or "it must return a next z with the same shapes and types"
                )
                raise UserError(
                    f"{name} returns {described(state)} where its state z is "
                    f"{self._described()}: {advice}"
                )
            if _changes(v) != changes:
                raise UserError(
                    f"{name} changes its state z in place: take an operation that leaves z as it is"
                )
            return self.flatten(state)

        return at

    def gradient(
        self, loss: Callable[[Tensor | list[Tensor]], Tensor]
    ) -> Callable[[Tensor], Tensor]:
        """z ↦ ∇loss(z) on vectors (batch, d), of a scalar function of a state."""

        def at(v: Tensor) -> Tensor:
            with torch.enable_grad():
                leaf = v.detach().requires_grad_()
                value = loss(self.unflatten(leaf))
                if not (isinstance(value, Tensor) and value.numel() == 1 and value.requires_grad):
                    raise UserError(
                        f"loss(z) must be one number that depends on z, and is {described(value)}"
                    )
                (gradient,) = torch.autograd.grad(value, leaf)
            return gradient

        return at

    def _fits(self, state: Any) -> bool:
        """Whether a cell returned a state like z, in types no longer than z's.

        Where z's is shorter than float32, as under autocast, no longer than that.
        """
        if not isinstance(state, Tensor if self.single else list | tuple):
            return False
        tensors = (state,) if isinstance(state, Tensor) else state
        return len(tensors) == len(self.shapes) and all(
            isinstance(t, Tensor)
            and t.shape == (self.batch, *shape)
            and t.dtype in FLOATS
            and torch.promote_types(t.dtype, longest) == longest
            for t, shape, longest in zip(
                tensors, self.shapes, map(_at_least_float32, self.dtypes), strict=True
            )
        )

    def _described(self) -> str:
        state = [
            torch.empty(self.batch, *shape, dtype=dtype, device="meta")
            for shape, dtype in zip(self.shapes, self.dtypes, strict=True)
        ]
        return described(state[0] if self.single else state)

    def _clash(
        self,
        cell: Callable[..., CellState],
        device: torch.device,
        inputs: tuple[Any, ...],
        named: dict[str, Any],
    ) -> str:
        """Whose batch, type or device is not z's, in words.

        A batch of 1 is shared by all samples.
        """
        given = {**{str(i): t for i, t in enumerate(inputs)}, **named}
        lengths = {name: len(t) for name, t in given.items() if isinstance(t, Tensor) and t.ndim}
        others = [f"input {name} of {n}" for name, n in lengths.items() if n not in (1, self.batch)]
        if others:
            return f"z0 has a batch of {self.batch}, {' and '.join(others)}"
        parameter = next(cell.parameters(), None) if isinstance(cell, nn.Module) else None
        if parameter is not None and parameter.dtype not in self.dtypes:
            return (
                f"z0 is {short(self.dtypes[0])}, the cell's parameters are {short(parameter.dtype)}"
            )
        if parameter is not None and parameter.device != device:
            return f"z0 is on {device}, the cell's parameters are on {parameter.device}"
        return ""


def _unflattened(part: Tensor, shape: torch.Size, channels_last: bool) -> Tensor:
    """Rows (batch, n) as a tensor (batch, *shape)."""
    if len(shape) == 1:
        return part
    if not channels_last:
        return part.view(len(part), *shape)
    channels, height, width = shape
    return part.view(len(part), height, width, channels).permute(0, 3, 1, 2)


def _is_channels_last(t: Tensor) -> bool:
    return t.is_contiguous(memory_format=torch.channels_last) and not t.is_contiguous()


def _at_least_float32(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _changes(v: Tensor) -> int:
    """How often v was changed in place, which tensors made in inference mode do not count."""
    return 0 if v.is_inference() else v._version
