"""Whether a function waits for its device: what a CUDA graph cannot hold, found without one."""

import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
# These give a number, or a shape that depends on numbers: Python waits for the device.
READS = (
    aten._local_scalar_dense,
    aten.is_nonzero,
    aten.equal,
    aten.nonzero,
    aten.masked_select,
    aten._unique2,
    aten.unique_dim,
    aten.unique_consecutive,
    aten.bincount,
    aten._linalg_check_errors,
)
# A mask among the indices of these is turned into numbers first.
INDEXING = (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_)
COPIES = (aten._to_copy, aten.copy_)
# What `torch.tensor` and `torch.as_tensor` end with, whose numbers come from the host.
FROM_HOST = (aten.lift_fresh,)
PYTORCH = str(Path(torch.__file__).parent)


class Synchronisations(TorchDispatchMode):
    """Notes what waits for `device`, in the block: values that are read back, and copies.

    `found` has a line for each, with the place in the code. A copy between devices waits wherever
    the host's memory is not pinned. Whether there is a GPU does not matter: on the CPU, and on
    PyTorch's "meta" device, which computes nothing but shapes, the same lines are found. What a
    CPU tensor's `tolist()` and `numpy()` read passes PyTorch by, and is found on "meta" only.
    """

    def __init__(self, device: torch.device | str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device = torch.device(device)
        self.found: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        packet = func.overloadpacket
        devices = {t.device.type for t in _tensors((args, kwargs))}
        if packet in COPIES:
            devices |= {torch.device(kwargs.get("device") or args[0].device).type}
            if len(devices) > 1 and self.device.type in devices:
                self._note(f"a copy between {' and '.join(sorted(devices))}")
        elif self.device.type not in devices:
            pass
        elif packet in FROM_HOST:
            self._note("a tensor of Python numbers is copied there")
        elif packet in READS or _has_mask(packet, args):
            self._note(f"{packet} is read back")
        return func(*args, **kwargs)

    def _note(self, what: str) -> None:
        self.found.append(f"{what} ({_place()})")


def _has_mask(packet: Any, args: Any) -> bool:
    masks = (torch.bool, torch.uint8)
    return packet in INDEXING and any(t.dtype in masks for t in _tensors(args[1]))


def _tensors(tree: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def _place() -> str:
    """The innermost line that is neither PyTorch's nor this file's."""
    frames = traceback.extract_stack()
    own = [f for f in frames if not f.filename.startswith(PYTORCH) and f.filename != __file__]
    return f"{own[-1].filename}, line {own[-1].lineno}"
