"""The multiscale deep equilibrium network for image classification."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Interval, MinLen
from pydantic import PositiveInt
from torch import Tensor, nn

from shine_exp.deq.cell_state import CellState
from shine_exp.deq.layer import DEQ
from shine_exp.training.images.cell import MultiscaleCell
from shine_exp.training.images.head import ClassificationHead, injection


@dataclass(frozen=True)
class Architecture:
    """The sizes of an MDEQ.

    `channels` and `head_channels` have an entry per branch; each branch has half the resolution of
    the one before. `channels_last` is how tensors lie in the memory of a CPU, where it depends on
    the sizes which way is faster; on a GPU the channels come first, which is faster there.
    """

    channels: Annotated[Sequence[PositiveInt], MinLen(1)]
    head_channels: Annotated[Sequence[PositiveInt], MinLen(1)]
    final_channels: PositiveInt
    expansion: PositiveInt
    groups: PositiveInt
    n_downsamplings: Annotated[int, Interval(ge=0, le=2)]
    dropout: Annotated[float, Interval(ge=0, lt=1)]
    channels_last: bool

    def memory_format(self, device: torch.device) -> torch.memory_format:
        on_cpu = device.type == "cpu"
        return torch.channels_last if self.channels_last and on_cpu else torch.contiguous_format

    def dropout_masks(self, n: int, generator: torch.Generator) -> list[Tensor]:
        """Variational dropout of n samples, on the CPU: a mask (n, c, 1, 1) for each branch.

        Its entries are 0 or 1 / (1 − dropout). Without dropout there are no masks.
        """
        keep = 1 - self.dropout
        if keep == 1:
            return []
        shapes = [(n, c, 1, 1) for c in self.channels]
        return [
            torch.bernoulli(torch.full(shape, keep), generator=generator) / keep for shape in shapes
        ]


class MDEQ(nn.Module):
    """Logits (batch, n_classes) of images (batch, c, h, w).

    The multiscale deep equilibrium network of Bai et al. 2020, with the settings of Ramzi et al.
    2022, appendix C. `layer` makes the equilibrium layer of the cell.
    """

    def __init__(
        self,
        architecture: Architecture,
        image_channels: int,
        n_classes: int,
        layer: Callable[[nn.Module], DEQ],
    ) -> None:
        super().__init__()
        a = self.architecture = architecture
        self.injection = injection(image_channels, a.channels, a.n_downsamplings)
        self.equilibrium = layer(MultiscaleCell(a.channels, a.expansion, a.groups))
        self.head = ClassificationHead(a.channels, a.head_channels, a.final_channels, n_classes)
        self.to(memory_format=a.memory_format(torch.device("cpu")))  # type: ignore[call-overload]

    def forward(
        self,
        images: Tensor,
        masks: Sequence[Tensor] = (),
        *,
        criterion: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """`masks` are those of dropout, none in evaluation.

        `criterion(logits)` is the loss that OPA is to be aware of.
        """
        z0, inputs = self.layer_arguments(images, masks)
        logits: Tensor = self.head(self.equilibrium(z0, *inputs, loss=self._loss(criterion)))
        return logits

    def layer_arguments(
        self, images: Tensor, masks: Sequence[Tensor] = ()
    ) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """What the equilibrium layer is called with: z₀ = 0 and the cell's inputs.

        z₀ is in the images' precision, (batch, c_i, ⌈h / 2ⁱ⌉, ⌈w / 2ⁱ⌉) for h × w after the
        injection.
        """
        memory_format = self.architecture.memory_format(images.device)
        x = self.injection(images.contiguous(memory_format=memory_format))
        height, width = x.shape[2:]
        sizes = [
            (c, -(-height // 2**i), -(-width // 2**i))
            for i, c in enumerate(self.architecture.channels)
        ]
        z0 = [
            images.new_zeros(len(x), *size).contiguous(memory_format=memory_format)
            for size in sizes
        ]
        return z0, (x, *masks)

    def on(self, device: str) -> "MDEQ":
        """The network itself, moved to a device, and there into the memory format for it."""
        memory_format = self.architecture.memory_format(torch.device(device))
        return self.to(device).to(memory_format=memory_format)  # type: ignore[call-overload,no-any-return]

    def _loss(
        self, criterion: Callable[[Tensor], Tensor] | None
    ) -> Callable[[CellState], Tensor] | None:
        """The criterion as a function of the equilibrium."""
        if criterion is None:
            return None

        def loss(z: CellState) -> Tensor:
            with _frozen_statistics(self.head):
                return criterion(self.head(z))

        return loss


@contextmanager
def _frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Batch normalisation as in this mode, but the running statistics do not take part."""
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
