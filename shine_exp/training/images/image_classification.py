"""Image classification by a multiscale deep equilibrium network (MDEQ)."""

from typing import NamedTuple

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from shine_exp.data.images import Images
from shine_exp.deq.layer import DEQ
from shine_exp.errors import UserError
from shine_exp.randomness import generator
from shine_exp.solvers.broyden import Broyden
from shine_exp.training.images.augment import crop_and_flip
from shine_exp.training.images.mdeq import MDEQ, Architecture
from shine_exp.training.task import LayerFactory, Task

EVALUATION_BATCH = 128
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
        self.batch_size, self.augment = batch_size, augment
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
        return self._network(layer).to(self.device)

    def _network(self, layer: LayerFactory) -> MDEQ:
        return MDEQ(self.architecture, self.data.shape[0], self.data.n_classes, layer)

    def batch(self, seed: int, step: int) -> Batch:
        train = self.data.train
        epoch, place = divmod(step, self.steps_per_epoch)
        order = torch.randperm(len(train.labels), generator=generator(seed, epoch, EPOCH))
        chosen = order[place * self.batch_size : (place + 1) * self.batch_size]
        images = self.data.normalise(train.pixels[chosen].to(self.device))
        drawn = generator(seed, step)
        if self.augment:
            images = crop_and_flip(images, PADDING, drawn)
        masks = self.architecture.dropout_masks(len(chosen), drawn)
        on_device = [mask.to(self.device) for mask in masks]
        return Batch(images, train.labels[chosen].to(self.device), on_device)

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        def criterion(logits: Tensor) -> Tensor:
            return cross_entropy(logits, batch.labels)

        return criterion(network(batch.images, batch.masks, criterion=criterion))

    def evaluate(self, network: nn.Module) -> dict[str, float]:
        loss, correct = 0.0, 0
        test = self.data.test
        batches = zip(
            test.pixels.split(EVALUATION_BATCH), test.labels.split(EVALUATION_BATCH), strict=True
        )
        for pixels, on_cpu in batches:
            labels = on_cpu.to(self.device)
            logits = network(self.data.normalise(pixels.to(self.device)))
            loss += float(cross_entropy(logits, labels, reduction="sum"))
            correct += int((logits.argmax(-1) == labels).sum())
        n = len(test.labels)
        return {"test_loss": loss / n, "accuracy": correct / n}
