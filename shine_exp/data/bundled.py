"""The data sets that come with scikit-learn: no download."""

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import train_test_split

from shine_exp.data.dataset import Dataset, Scaling
from shine_exp.errors import DataError


def breast_cancer(scaling: Scaling, fraction: float) -> Dataset:
    """Wisconsin breast cancer, 569 × 30, dense: malignant −1, benign +1. A fraction < 1 draws that part of the rows."""
    x, target = load_breast_cancer(return_X_y=True)
    if not 0 < fraction <= 1:
        raise DataError(f"data.fraction={fraction}: take more than 0 and at most 1")
    if fraction < 1:
        x, _, target, _ = train_test_split(x, target, train_size=fraction, random_state=0)
    return Dataset(x, np.where(target == 0, -1.0, 1.0), "breast_cancer", scaling)


def digits(scaling: Scaling) -> Dataset:
    """Handwritten digits of 8 × 8 pixels, 1797 × 64, dense: even −1, odd +1."""
    x, target = load_digits(return_X_y=True)
    return Dataset(x, np.where(target % 2 == 0, -1.0, 1.0), "digits", scaling)
