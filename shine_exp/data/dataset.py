"""A binary classification data set, checked."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from shine_exp.data.io.digest import digest_of_arrays
from shine_exp.errors import DataError

Matrix: TypeAlias = Any  # np.ndarray or scipy.sparse.csr_matrix, which has no type stubs
Scaling = Literal["none", "variance", "standard"]


@dataclass(frozen=True)
class Dataset:
    """Rows X (n × p), float64, dense or CSR, and labels y (n,) ∈ {−1, +1}.

    `scaling` says what `split` is to do with the features. It is fitted on the training rows
    alone: "variance" divides each feature by its standard deviation, "standard" also centres it.
    Raises `DataError` where the labels are not two classes, a feature is NaN or infinite, or the
    scaling is unknown or would make a sparse matrix dense.
    """

    x: Matrix
    y: np.ndarray
    name: str
    scaling: Scaling

    def __post_init__(self) -> None:
        classes = np.unique(self.y)
        if not np.array_equal(classes, [-1.0, 1.0]):
            raise DataError(f"{self.name}: labels must be −1 and +1, but are {_some(classes)}")
        check_features(self.x, self.name, self.scaling)

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hex, of X, of y, and of how it is to be scaled."""
        return digest_of_rows(self.x, self.y, self.scaling)


def check_features(x: Matrix, name: str, scaling: str) -> None:
    """Raises `DataError` for a feature that is not finite, or a scaling that does not apply."""
    _require_finite(x, name)
    if scaling not in get_args(Scaling):
        known = ", ".join(get_args(Scaling))
        raise DataError(f"{name}: data.scaling must be one of {known}, but is {scaling}")
    if scaling == "standard" and is_sparse(x):
        fault = "centring would make sparse data dense"
        raise DataError(f"{name}: {fault}; use data.scaling=variance or none")


def digest_of_rows(x: Matrix, y: np.ndarray, scaling: str) -> str:
    """SHA-256, in hex, of X, of y, and of how X is to be scaled."""
    return digest_of_arrays(*_arrays(x), y, np.frombuffer(scaling.encode(), np.uint8))


def is_sparse(x: Matrix) -> bool:
    """CSR, not an array. Dense data do without SciPy, which is slow to import."""
    return not isinstance(x, np.ndarray)


def two_classes(labels: np.ndarray, name: str) -> np.ndarray:
    """Labels of any two values as −1 (the smaller) and +1.

    Raises `DataError` where they are not two.
    """
    classes = np.unique(labels)
    if not np.isfinite(classes).all():
        raise DataError(f"{name}: a label is NaN or infinite; clean the data first")
    if len(classes) != 2:
        raise DataError(
            f"{name}: needs labels of two classes, but has {len(classes)}: {_some(classes)}"
        )
    return np.where(labels == classes[1], 1.0, -1.0)


def _arrays(x: Matrix) -> list[np.ndarray]:
    """The numbers that make up a matrix."""
    if not is_sparse(x):
        return [x]
    if not x.has_canonical_format:
        x = x.copy()
        x.sum_duplicates()
    return [np.array(x.shape), x.indptr, x.indices, x.data]


def _require_finite(x: Matrix, name: str) -> None:
    values = x.data if is_sparse(x) else x
    if np.isfinite(values).all():
        return
    first = np.flatnonzero(~np.isfinite(np.ravel(values)))[0]
    if is_sparse(x):
        entries = x.tocoo()
        row, column = entries.row[first], entries.col[first]
    else:
        row, column = np.unravel_index(first, x.shape)
    raise DataError(
        f"{name}: feature {column + 1} of row {row + 1} is NaN or infinite; clean the data first"
    )


def _some(values: np.ndarray, at_most: int = 6) -> str:
    return ", ".join(f"{v:g}" for v in values[:at_most]) + (", …" if len(values) > at_most else "")
