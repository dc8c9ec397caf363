"""A tensor, or a dict of tensors, as one vector and back."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from shine_exp.errors import UserError

Tensors: TypeAlias = Tensor | Mapping[str, Tensor]


@dataclass(frozen=True)
class Structure:
    """The shape of a tensor, with `names` None, or the names and shapes of a dict of tensors."""

    names: tuple[str, ...] | None
    shapes: tuple[torch.Size, ...]

    @staticmethod
    def of(tensors: Tensors, what: str) -> "Structure":
        """The structure of `tensors`, which error messages call `what`.

        Raises `UserError` for anything but floating-point tensors of one dtype on one device.
        """
        parts = tensors if isinstance(tensors, Mapping) else {"": tensors}
        if not parts or not all(
            isinstance(part, Tensor) and part.is_floating_point() for part in parts.values()
        ):
            raise UserError(
                f"{what} must be a floating-point tensor, or a dict of them, and is "
                f"{_kind(tensors)}; torch.tensor(0.0, dtype=torch.float64) is one"
            )
        if len({(part.dtype, part.device) for part in parts.values()}) > 1:
            raise UserError(f"{what}: its tensors must have one type and lie on one device")
        names = tuple(parts) if isinstance(tensors, Mapping) else None
        return Structure(names, tuple(part.shape for part in parts.values()))

    def flatten(self, tensors: Tensors) -> Tensor:
        """The tensors as one vector (d,), in the order of `names`."""
        if isinstance(tensors, Tensor):
            return tensors.reshape(-1)
        return torch.cat([tensors[name].reshape(-1) for name in self.names or ()])

    def unflatten(self, vector: Tensor) -> Tensors:
        """The tensors of a vector (d,), as views of it."""
        if self.names is None:
            return vector.reshape(self.shapes[0])
        parts = vector.split([math.prod(shape) for shape in self.shapes])
        named = zip(self.names, parts, self.shapes, strict=True)
        return {name: part.reshape(shape) for name, part, shape in named}


def _kind(given: object) -> str:
    """What was given in place of a tensor, on one line."""
    if isinstance(given, Tensor):
        return f"a tensor of {given.dtype}"
    if isinstance(given, Mapping):
        parts = [f"{name}: {_kind(part)}" for name, part in given.items()]
        return f"a dict of {', '.join(parts)}" if parts else "an empty dict"
    shown = " ".join(repr(given).split())
    return f"{type(given).__name__} {shown}" if len(shown) < 40 else f"a {type(given).__name__}"
