"""The split into training, outer and held-out rows (Ramzi et al. 2022, section 4)."""

import math
from dataclasses import dataclass

import numpy as np

from shine_exp.data.dataset import Dataset, Matrix
from shine_exp.data.scaling import check_size, scaled
from shine_exp.errors import DataError

Rows = tuple[Matrix, np.ndarray]
FEWEST_ROWS = 31  # the smallest n with ⌊⌈n/10⌉/2⌋ ≥ 2: a row of each class in the smallest set


@dataclass(frozen=True)
class Splits:
    """Three disjoint sets of rows (X, y).

    `train` is for G, `outer` for F, and `test` is held out and only measured.
    """

    train: Rows
    outer: Rows
    test: Rows


def split(data: Dataset, seed: int) -> Splits:
    """90 % are for training; of the rest, half is held out and half is outer (Pedregosa 2016).

    Features are scaled as `data.scaling` says. Raises `DataError` where a set has one class only,
    or, once scaled, has features that are too large or too small to be computed with.
    """
    if len(data.y) < FEWEST_ROWS:
        raise DataError(
            f"{data.name}: has {len(data.y)} rows; "
            f"two rows in every set need at least {FEWEST_ROWS}"
        )
    train, rest = _parted(np.arange(len(data.y)), 0.1, seed)
    test, outer = _parted(rest, 0.5, seed)
    (x_train, y_train), (x_test, y_test), (x_outer, y_outer) = (
        (data.x[i], data.y[i]) for i in (train, test, outer)
    )
    for name, labels in (("training", y_train), ("outer", y_outer), ("held-out", y_test)):
        if len(np.unique(labels)) < 2:
            fault = f"the {name} set of seed {seed} ({len(labels)} rows) has one class only"
            raise DataError(f"{data.name}: {fault}; take another seed or more rows")
    if data.scaling != "none":
        x_train, x_outer, x_test = scaled(
            [x_train, x_outer, x_test], centred=data.scaling == "standard"
        )
    for name, x in (("training", x_train), ("outer", x_outer), ("held-out", x_test)):
        check_size(x, f"{data.name}: the {name} set of seed {seed}", may_be_zero=name == "held-out")
    return Splits((x_train, y_train), (x_outer, y_outer), (x_test, y_test))


def _parted(rows: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two parts, the second of ⌈share n⌉ rows, as scikit-learn's `train_test_split` draws them.

    Its import would take longer than the split.
    """
    # NumPy's legacy generator, as scikit-learn has it: the published splits are drawn by it, and
    # another would give other rows for the same seed.
    drawn = rows[np.random.RandomState(seed).permutation(len(rows))]
    n_second = math.ceil(share * len(rows))
    return drawn[n_second:], drawn[:n_second]
