"""The state of a cell, one tensor or several, as one vector per sample."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

State = Tensor | Sequence[Tensor]  # each (batch, …)


@dataclass(frozen=True)
class Packing:
    """The shapes of a state, to go from it to vectors (batch, d) and back.

    A 4-d tensor in channels-last memory is packed in that order, so that neither way moves its elements. The state has
    the floating-point type of its first tensor; vectors have float32 where that is shorter, as under autocast.
    """

    shapes: tuple[torch.Size, ...]
    channels_last: tuple[bool, ...]
    single: bool
    dtype: torch.dtype

    @staticmethod
    def of(z: State) -> "Packing":
        tensors = (z,) if isinstance(z, Tensor) else tuple(z)
        return Packing(
            tuple(t.shape[1:] for t in tensors),
            tuple(t.ndim == 4 and _is_channels_last(t) for t in tensors),
            isinstance(z, Tensor),
            tensors[0].dtype,
        )

    def pack(self, z: State) -> Tensor:
        """The state as vectors (batch, d)."""
        tensors = (z,) if isinstance(z, Tensor) else z
        parts = [
            (t.permute(0, 2, 3, 1) if last else t).flatten(1)
            for t, last in zip(tensors, self.channels_last, strict=True)
        ]
        return (parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)).to(
            torch.promote_types(self.dtype, torch.float32)
        )

    def unpack(self, v: Tensor) -> Tensor | list[Tensor]:
        """The vectors (batch, d) as a state."""
        parts = v.to(self.dtype).split([math.prod(shape) for shape in self.shapes], dim=1)
        tensors = [
            part.unflatten(1, (*shape[1:], shape[0])).permute(0, 3, 1, 2) if last else part.unflatten(1, shape)
            for part, shape, last in zip(parts, self.shapes, self.channels_last, strict=True)
        ]
        return tensors[0] if self.single else tensors

    def lift(self, cell: Callable[..., State], *inputs: Tensor) -> Callable[[Tensor], Tensor]:
        """z ↦ cell(z, *inputs) on vectors (batch, d)."""
        return lambda v: self.pack(cell(self.unpack(v), *inputs))

    def gradient(self, loss: Callable[[Tensor | list[Tensor]], Tensor]) -> Callable[[Tensor], Tensor]:
        """z ↦ ∇loss(z) on vectors (batch, d), of a scalar function of a state."""

        def at(v: Tensor) -> Tensor:
            with torch.enable_grad():
                leaf = v.detach().requires_grad_()
                (gradient,) = torch.autograd.grad(loss(self.unpack(leaf)), leaf)
            return gradient

        return at


def _is_channels_last(t: Tensor) -> bool:
    return t.is_contiguous(memory_format=torch.channels_last) and not t.is_contiguous()
