"""The multiscale deep equilibrium network for image classification."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Interval, MinLen
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn

from shine_exp.deq.layer import DEQ
from shine_exp.deq.state import State
from shine_exp.deq.unroll import unroll
from shine_exp.training.images.cell import MultiscaleCell
from shine_exp.training.images.head import ClassificationHead, injection


@dataclass(frozen=True)
class Architecture:
    """The sizes of an MDEQ: one entry of `channels` and `head_channels` per branch, each at half
    the resolution.

    `channels_last` is how tensors lie in memory: which way is faster depends on the sizes and the
    device.
    """

    channels: Annotated[Sequence[PositiveInt], MinLen(1)]
    head_channels: Annotated[Sequence[PositiveInt], MinLen(1)]
    final_channels: PositiveInt
    expansion: PositiveInt
    groups: PositiveInt
    n_downsamplings: Annotated[int, Interval(ge=0, le=2)]
    dropout: Annotated[float, Interval(ge=0, lt=1)]
    channels_last: bool

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format


@dataclass(frozen=True)
class Recipe:
    """A network, and what the solver, the method and the outer loop are set to for it
    (`${problem.model.…}` in conf/).

    Steps of the forward solver and of a full backward pass; training epochs, images in a batch,
    steps of unrolled pre-training, and whether images are cropped and flipped.
    """

    architecture: Architecture
    forward_steps: PositiveInt
    backward_steps: PositiveInt
    epochs: PositiveInt
    batch_size: PositiveInt
    pretrain_steps: NonNegativeInt
    augment: bool


class MDEQ(nn.Module):
    """Logits (batch, n_classes) of images (batch, c, h, w) (Bai et al. 2020; Ramzi et al. 2022,
    appendix C).

    `layer` makes the equilibrium layer of the cell.
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
        self.to(memory_format=a.memory_format)  # type: ignore[call-overload]

    def forward(
        self,
        images: Tensor,
        *,
        criterion: Callable[[Tensor], Tensor] | None = None,
        n_unrolled: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """`criterion(logits)` is the loss that OPA is to be aware of, `n_unrolled` replaces the
        solver by so many applications of the cell, and `generator`, on the CPU, draws the dropout
        masks in training.
        """
        z0, inputs = self.start(images, generator)
        if n_unrolled is not None:
            z: State = unroll(self.equilibrium.cell, z0, *inputs, n_steps=n_unrolled)
        else:
            z = self.equilibrium(z0, *inputs, loss=self._loss(criterion))
        logits: Tensor = self.head(z)
        return logits

    def start(
        self, images: Tensor, generator: torch.Generator | None = None
    ) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """What the equilibrium layer is called with: z₀ = 0, in the images' precision, and the
        cell's inputs.
        """
        memory_format = self.architecture.memory_format
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
        return z0, (x, *self._masks(x, generator))

    def _masks(self, x: Tensor, generator: torch.Generator | None) -> list[Tensor]:
        keep = 1 - self.architecture.dropout
        if not self.training or keep == 1:
            return []
        shapes = [(len(x), c, 1, 1) for c in self.architecture.channels]
        return [
            torch.bernoulli(torch.full(shape, keep), generator=generator).to(x.device) / keep
            for shape in shapes
        ]

    def _loss(
        self, criterion: Callable[[Tensor], Tensor] | None
    ) -> Callable[[State], Tensor] | None:
        if criterion is None:
            return None

        def loss(z: State) -> Tensor:
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
