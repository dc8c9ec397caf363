"""How much memory an operation takes at a time, on any device."""

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveMemory(TorchDispatchMode):
    """Counts the bytes of the tensors that are made within it: those alive, and most at a time.

    It sees each operation of PyTorch, those of a backward pass too, and slows it down.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive = self.peak = 0
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self._meet((args, kwargs), is_new=False)
        made = func(*args, **(kwargs or {}))
        self._meet(made, is_new=True)
        return made

    def _meet(self, values: Any, is_new: bool) -> None:
        """Views share a storage, which counts once, where it is made."""
        for leaf in tree_leaves(values):
            if isinstance(leaf, Tensor) and id(leaf.untyped_storage()) not in self._known:
                self._know(leaf.untyped_storage(), leaf.untyped_storage().nbytes() * is_new)

    def _know(self, storage: torch.UntypedStorage, size: int) -> None:
        key = id(storage)

        def gone(_: object) -> None:
            del self._known[key]
            self.alive -= size

        self._known[key] = weakref.ref(storage, gone)
        self.alive += size
        self.peak = max(self.peak, self.alive)
