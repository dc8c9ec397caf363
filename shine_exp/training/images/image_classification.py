"""Image classification by a multiscale deep equilibrium network (MDEQ)."""

from dataclasses import replace
from typing import NamedTuple

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from shine_exp.data.images import Images, LabelledImages
from shine_exp.deq.layer import DEQ
from shine_exp.errors import UserError
from shine_exp.processes import Processes
from shine_exp.randomness import generator
from shine_exp.solvers.broyden import Broyden
from shine_exp.training.images.augment import crop_and_flip
from shine_exp.training.images.mdeq import MDEQ, Architecture
from shine_exp.training.task import LayerFactory, Task

EVALUATION_BATCH = 128
LARGEST_ON_DEVICE = 1 << 32  # bytes of a set; of larger ones, the images of a step are copied
PADDING = 4  # pixels, of the crops
EPOCH = 1  # of the two streams of random numbers: the order of an epoch, and what a step draws


class Batch(NamedTuple):
    """Normalised images (n, channels, height, width), their labels (n,), and dropout masks."""

    images: Tensor
    labels: Tensor
    masks: list[Tensor]


class ImageClassification(Task):
    """min over w of the cross-entropy of an MDEQ's logits over the training images.

    An epoch sees every image once, in an order of its own, but for a last batch that is not full:
    it is left out, unless it is the only one. With `augment` training images are cropped and
    flipped at random. The trace has the mean cross-entropy and the share of correct labels (top-1)
    on the test images.

    Both sets lie on the device, if they are no larger than `LARGEST_ON_DEVICE`: images are chosen,
    cropped and flipped there. What is random about that is drawn on the CPU, so that every device
    sees the same images.

    Raises `UserError` where the sizes of the network do not fit together.
    """

    columns = ("test_loss", "accuracy")

    def __init__(
        self,
        data: Images,
        device: str,
        architecture: Architecture,
        batch_size: PositiveInt,
        augment: bool,
    ) -> None:
        self.data, self.device, self.architecture = data, device, architecture
        self.train, self.test = (_on_device(part, device) for part in (data.train, data.test))
        self.batch_size, self.augment = batch_size, augment
        self._last_order: tuple[tuple[int, int], Tensor] | None = None
        try:
            with torch.device("meta"):  # shapes alone
                self._network(lambda cell: DEQ(cell, Broyden(), None))
        except ValueError as error:
            raise UserError(
                f"problem.architecture: its sizes do not fit together ({error})"
            ) from error

    @property
    def steps_per_epoch(self) -> int:
        return max(1, len(self.data.train.labels) // self.batch_size)

    @property
    def facts(self) -> dict[str, int | str]:
        return {"n_train": len(self.data.train.labels), "n_test": len(self.data.test.labels)}

    def network(self, layer: LayerFactory) -> MDEQ:
        return self._network(layer).on(self.device)

    def _network(self, layer: LayerFactory) -> MDEQ:
        return MDEQ(self.architecture, self.data.shape[0], self.data.n_classes, layer)

    def batch(self, seed: int, step: int) -> Batch:
        epoch, place = divmod(step, self.steps_per_epoch)
        order = self._order(seed, epoch)
        chosen = order[place * self.batch_size : (place + 1) * self.batch_size]
        images = self.data.normalise(self.train.pixels[chosen].to(self.device))
        drawn = generator(seed, step)
        if self.augment:
            images = crop_and_flip(images, PADDING, drawn)
        masks = self.architecture.dropout_masks(len(chosen), drawn)
        on_device = [mask.to(self.device) for mask in masks]
        return Batch(images, self.train.labels[chosen].to(self.device), on_device)

    def _order(self, seed: int, epoch: int) -> Tensor:
        """Of the training images in an epoch, where they lie.

        That of the last epoch is kept: on a GPU, to draw it anew takes as long as a part of a step.
        """
        if self._last_order is None or self._last_order[0] != (seed, epoch):
            drawn = generator(seed, epoch, EPOCH)
            order = torch.randperm(len(self.train.labels), generator=drawn)
            self._last_order = (seed, epoch), order.to(self.train.pixels.device)
        return self._last_order[1]

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        def criterion(logits: Tensor) -> Tensor:
            return cross_entropy(logits, batch.labels)

        return criterion(network(batch.images, batch.masks, criterion=criterion))

    def share(self, batch: Batch, processes: Processes) -> tuple[Batch, float]:
        rows = processes.rows(len(batch.labels))
        masks = [mask[rows] for mask in batch.masks]
        return Batch(batch.images[rows], batch.labels[rows], masks), 1 / processes.n

    def evaluate(self, network: nn.Module) -> dict[str, float]:
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        parts = (part.split(EVALUATION_BATCH) for part in (self.test.pixels, self.test.labels))
        for batch in zip(*parts, strict=True):
            pixels, labels = (part.to(self.device) for part in batch)
            logits = network(self.data.normalise(pixels))
            loss += cross_entropy(logits, labels, reduction="sum")
            correct += (logits.argmax(-1) == labels).sum()
        n = len(self.test.labels)
        return {"test_loss": float(loss) / n, "accuracy": int(correct) / n}


def _on_device(images: LabelledImages, device: str) -> LabelledImages:
    """The images there, or where they are if they are too many."""
    if images.pixels.nbytes > LARGEST_ON_DEVICE:
        return images
    return replace(images, pixels=images.pixels.to(device), labels=images.labels.to(device))
