"""Data sets of several classes, checked: unsplit, and already split."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from shine_exp.data.dataset import Dataset, Matrix, Scaling, check_features, digest_of_rows
from shine_exp.data.io.digest import digest_of_arrays
from shine_exp.errors import DataError

LabelledRows = tuple[Matrix, np.ndarray]  # X (n × p) and the labels (n,)


@dataclass(frozen=True)
class MulticlassDataset:
    """Rows X (n × p), float64, dense or CSR, and labels (n,), int64, counted from 0.

    `scaling` says what a split is to do with the features, as in `Dataset`. Where the rows are
    images, `shape` is (channels, height, width) of each, with the product p. Raises `DataError`
    where there are fewer than two classes, a class has no row, a feature is NaN or infinite, or
    the scaling or the shape does not fit.
    """

    x: Matrix
    labels: np.ndarray
    name: str
    scaling: Scaling = "none"
    shape: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        _check_labels(self.labels, self.x.shape[0], self.name)
        check_features(self.x, self.name, self.scaling)
        _check_shape(self.shape, self.x.shape[1], self.name)

    @property
    def n_classes(self) -> int:
        return int(self.labels.max()) + 1

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hex, of X, of the labels, and of how X is to be scaled."""
        return digest_of_rows(self.x, self.labels, self.scaling)

    @staticmethod
    def of(data: Dataset) -> "MulticlassDataset":
        """A data set of the labels −1 and +1 as one of the classes 0 and 1."""
        labels = (data.y > 0).astype(np.int64)
        return MulticlassDataset(data.x, labels, data.name, data.scaling)


@dataclass(frozen=True)
class MulticlassSplits:
    """Three disjoint sets of rows (X, labels), and the shape of a row where it is an image.

    `train` is for G, `outer` for F, and `test` is held out and only measured. A data set may come
    split, as where its outer rows are drawn from another distribution than its training rows.
    Raises `DataError` where a set has no row of one of the classes, or a feature is not finite.
    """

    train: LabelledRows
    outer: LabelledRows
    test: LabelledRows
    name: str
    shape: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        for part, (x, labels) in self.parts():
            name = f"{self.name}: the {part} set"
            _check_labels(labels, x.shape[0], name, self.n_classes)
            check_features(x, name, "none")
            _check_shape(self.shape, x.shape[1], name)

    @property
    def n_classes(self) -> int:
        return max(int(labels.max(initial=0)) for _, (_, labels) in self.parts()) + 1

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hex, of the three sets."""
        digests = [digest_of_rows(x, labels, "none") for _, (x, labels) in self.parts()]
        return digest_of_arrays(*(np.frombuffer(d.encode(), np.uint8) for d in digests))

    def parts(self) -> Iterator[tuple[str, LabelledRows]]:
        """What each set is called in a message, and its rows."""
        yield "training", self.train
        yield "outer", self.outer
        yield "held-out", self.test


def counted_from_zero(labels: np.ndarray, name: str) -> np.ndarray:
    """Labels of any finite values, (n,), int64, numbered from 0 in their order.

    Raises `DataError` where a label is NaN or infinite.
    """
    classes, numbered = np.unique(labels, return_inverse=True)
    if not np.isfinite(classes).all():
        raise DataError(f"{name}: a label is NaN or infinite; clean the data first")
    return numbered.astype(np.int64)


def _check_labels(labels: np.ndarray, n: int, name: str, n_classes: int | None = None) -> None:
    """Raises `DataError` unless these are the labels of n rows, with rows of all classes."""
    if labels.shape != (n,) or labels.dtype != np.int64:
        raise DataError(
            f"{name}: labels must be {n} integers (int64), one a row, but are "
            f"{labels.dtype} of shape {labels.shape}"
        )
    if n == 0 or labels.min() < 0:
        fault = "has no row" if n == 0 else f"has the label {labels.min()}"
        raise DataError(f"{name}: {fault}; labels count from 0")
    counts = np.bincount(labels, minlength=n_classes or 2)
    if (counts == 0).any():
        empty = int(np.flatnonzero(counts == 0)[0])
        raise DataError(
            f"{name}: class {empty} has no row, of classes 0 to {len(counts) - 1}; "
            "give it rows, or number the classes without gaps"
        )


def _check_shape(shape: tuple[int, int, int] | None, n_features: int, name: str) -> None:
    if shape is not None and int(np.prod(shape)) != n_features:
        raise DataError(f"{name}: rows of {n_features} features are no images of shape {shape}")
