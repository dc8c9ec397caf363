"""The precision that a network is trained in."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import torch

Precision = Literal["float32", "tf32", "bfloat16"]


@contextmanager
def precision(name: Precision) -> Iterator[None]:
    """Within the block convolutions on a GPU round their factors to TF32, 10 bits, or do not.

    A solver's vectors and products are in full precision either way. What bfloat16 means for a
    loss is `autocast`'s.
    """
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = name == "tf32"
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def autocast(name: Precision, device: torch.device) -> AbstractContextManager[object]:
    """For a forward pass with its loss: all of the network in bfloat16, where that is meant."""
    return torch.autocast(device.type, torch.bfloat16) if name == "bfloat16" else nullcontext()
