"""Labelled images for networks, checked, and balanced subsets of them."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from shine_exp.data.io.digest import digest_of_arrays
from shine_exp.errors import DataError

CHUNK = 1024  # images that are counted at a time: a memory map is never in memory as a whole


@dataclass(frozen=True)
class LabelledImages:
    """Pixels (n, channels, height, width), uint8, and labels (n,), int64, counted from 0."""

    pixels: Tensor
    labels: Tensor
    known_digest: str | None = None  # where it was computed before

    @cached_property
    def digest(self) -> str:
        """SHA-256 of pixels and labels, in hex."""
        return self.known_digest or digest_of_arrays(
            self.pixels.cpu().numpy(), self.labels.cpu().numpy()
        )


@dataclass(frozen=True)
class Images:
    """A training and a test set of images of one shape and `n_classes` classes.

    Raises `DataError` where a set is empty or malformed, the shapes differ, there are fewer than
    two classes, or a label is not one of them.
    """

    train: LabelledImages
    test: LabelledImages
    n_classes: int
    name: str

    def __post_init__(self) -> None:
        if self.n_classes < 2:
            raise DataError(
                f"{self.name}: needs images of two or more classes, but has {self.n_classes}"
            )
        for split, images in (("training", self.train), ("test", self.test)):
            fault = _fault(images, self.n_classes)
            if fault:
                raise DataError(f"{self.name}: the {split} set {fault}")
        if self.train.pixels.shape[1:] != self.test.pixels.shape[1:]:
            train, test = (_times(images.pixels.shape[1:]) for images in (self.train, self.test))
            raise DataError(
                f"{self.name}: training images are {train}, but test images {test}; take one shape"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        channels, height, width = self.train.pixels.shape[1:]
        return channels, height, width

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hex, of the number of classes and of the two sets."""
        parts = f"{self.n_classes} {self.train.digest} {self.test.digest}"
        return hashlib.sha256(parts.encode()).hexdigest()

    def normalise(self, pixels: Tensor) -> Tensor:
        """(pixels − μ)/σ, with each channel's mean and deviation over the training pixels.

        σ = 0 counts as 1. Shapes (..., channels, height, width) → the same, float32, on the device
        of `pixels`.
        """
        mean, std = (moment.to(pixels.device) for moment in self._moments)
        return (pixels.to(torch.float32) - mean) / std

    def reduced(self, subset: int | None, test_subset: int | None, seed: int) -> "Images":
        """Balanced subsets of so many images; None keeps all.

        The seed draws the training images. The test images are the same for every seed.
        """
        train, test = self.train, self.test
        if subset is not None:
            train = balanced_subset(train, subset, self.n_classes, seed)
        if test_subset is not None:
            test = balanced_subset(test, test_subset, self.n_classes, 0, "test_subset")
        return replace(self, train=train, test=test)

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (channels, 1, 1) in float32.

        From how often each of the 256 values occurs, which is exact and takes little memory.
        """
        counts = torch.zeros(self.shape[0], 256, dtype=torch.float64)
        for start in range(0, len(self.train.pixels), CHUNK):
            chunk = self.train.pixels[start : start + CHUNK]
            counts += torch.stack(
                [torch.bincount(c.flatten(), minlength=256).cpu() for c in chunk.unbind(dim=1)]
            )
        frequencies = counts / counts.sum(dim=1, keepdim=True)
        values = torch.arange(256, dtype=torch.float64)
        mean = (frequencies * values).sum(dim=1, keepdim=True)
        std = (frequencies * (values - mean) ** 2).sum(dim=1, keepdim=True).sqrt()
        std[std == 0] = 1.0
        return mean[..., None].to(torch.float32), std[..., None].to(torch.float32)


def balanced_subset(
    images: LabelledImages, n: int, n_classes: int, seed: int, option: str = "subset"
) -> LabelledImages:
    """n of the images in their order, drawn by `seed`.

    Class sizes differ by at most 1; where a class is used up, the others share the rest. Of one
    seed, a smaller subset is part of a larger one. Raises `DataError` (of data.`option`) where n
    is less than a class each or more than there are, or the seed is negative.
    """
    n_images = len(images.labels)
    if not n_classes <= n <= n_images:
        raise DataError(
            f"data.{option}={n}: take from {n_classes}, the number of classes, "
            f"to {n_images}, all the images"
        )
    if seed < 0:
        raise DataError(f"data.seed={seed} must be at least 0")
    # NumPy's generator, not the runs' own: a subset is known by its seed, and published with it.
    order = np.random.default_rng(seed).permutation(n_images)
    labels = images.labels.cpu().numpy()[order]
    rank = np.empty(n_images, dtype=np.int64)  # of an image within its class, in the random order
    for label in range(n_classes):
        of_class = labels == label
        rank[of_class] = np.arange(of_class.sum())
    index = torch.from_numpy(np.sort(order[np.argsort(rank, kind="stable")[:n]]))
    return LabelledImages(images.pixels[index], images.labels[index])


def _fault(images: LabelledImages, n_classes: int) -> str | None:
    pixels, labels = images.pixels, images.labels
    if (pixels.dtype, labels.dtype, pixels.ndim, labels.ndim) != (torch.uint8, torch.int64, 4, 1):
        return (
            f"has pixels {_times(pixels.shape)} {pixels.dtype} and labels {_times(labels.shape)} "
            f"{labels.dtype}, but needs (n, channels, height, width) uint8 and (n,) int64"
        )
    if len(pixels) != len(labels):
        return f"has {len(pixels)} images, but {len(labels)} labels"
    if not pixels.numel():
        return "is empty"
    low, high = (int(label) for label in labels.aminmax())
    if low < 0 or high >= n_classes:
        return f"has the label {low if low < 0 else high}, but labels go from 0 to {n_classes - 1}"
    return None


def _times(shape: torch.Size) -> str:
    return " × ".join(map(str, shape))
