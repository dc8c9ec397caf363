"""The data sets that come with scikit-learn: no download.

Their tables are read from its folder without importing it, which takes longer than PyTorch.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from shine_exp.data.dataset import Dataset, Scaling
from shine_exp.data.images import Images, LabelledImages
from shine_exp.data.multiclass import MulticlassDataset
from shine_exp.errors import DataError, one_line


def breast_cancer(scaling: Scaling, fraction: float) -> Dataset:
    """Wisconsin breast cancer, 569 × 30, dense: malignant −1, benign +1.

    A fraction < 1 draws that part of the rows.
    """
    if not 0 < fraction <= 1:
        raise DataError(f"data.fraction={fraction}: take more than 0 and at most 1")
    x, target = _table("breast_cancer.csv", lines_above=1)
    if fraction < 1:
        from sklearn.model_selection import train_test_split  # slow to import

        x, _, target, _ = train_test_split(x, target, train_size=fraction, random_state=0)
    return Dataset(x, np.where(target == 0, -1.0, 1.0), "breast_cancer", scaling)


def digits(scaling: Scaling) -> Dataset:
    """Handwritten digits of 8 × 8 pixels, 1797 × 64, dense: even −1, odd +1."""
    x, target = _table("digits.csv.gz")
    return Dataset(x, np.where(target % 2 == 0, -1.0, 1.0), "digits", scaling)


def digits_classes(scaling: Scaling) -> MulticlassDataset:
    """Handwritten digits of 8 × 8 pixels, 1797 × 64, dense, ten classes; grey values 0 to 1."""
    x, labels = _table("digits.csv.gz")
    return MulticlassDataset(x / 16, labels, "digits_classes", scaling, shape=(1, 8, 8))


def digits_images(seed: int, test_fraction: float) -> Images:
    """Handwritten digits as images, 1797 × (1, 8, 8), ten classes.

    The grey values 0 to 16 become 0 to 255. The split keeps the shares of the classes. Raises
    `DataError` where `seed` or `test_fraction` is out of range.
    """
    from sklearn.model_selection import train_test_split  # slow to import

    if not 0.01 <= test_fraction <= 0.99:
        raise DataError(
            f"data.test_fraction={test_fraction}: take from 0.01 to 0.99, "
            "so that each set has all classes"
        )
    if not 0 <= seed < 2**32:
        raise DataError(f"data.seed={seed}: take a whole number, 0 or larger and below 2³²")
    x, labels = _table("digits.csv.gz")
    pixels = np.rint(x * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    draw = {"test_size": test_fraction, "random_state": seed, "stratify": labels}
    parts = train_test_split(pixels, labels, **draw)
    train_pixels, test_pixels, train_labels, test_labels = map(torch.from_numpy, parts)
    train, test = (
        LabelledImages(train_pixels, train_labels),
        LabelledImages(test_pixels, test_labels),
    )
    return Images(train, test, 10, "digits_images")


def _table(name: str, lines_above: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features (n × p, float64) and classes (n, int64), its last column, of one of the tables.

    Raises `DataError` where it is not there.
    """
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise DataError(f"{name}: comes with scikit-learn, which is missing; install it")
    path = Path(package.origin).with_name("datasets") / "data" / name
    try:
        table = np.loadtxt(path, delimiter=",", skiprows=lines_above)
    except OSError as error:
        reason = one_line(error)
        raise DataError(f"{path}: cannot be read ({reason}); install scikit-learn anew") from error
    return table[:, :-1], table[:, -1].astype(np.int64)
