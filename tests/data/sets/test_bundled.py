import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits

from shine_exp.data.dataset import Scaling
from shine_exp.data.sets.bundled import breast_cancer, digits


@pytest.mark.parametrize("scaling", ["none", "variance", "standard"])
def test_scaling_is_handed_on_and_not_applied(scaling: Scaling) -> None:
    for data, source in (
        (breast_cancer(scaling, 1.0), load_breast_cancer()),
        (digits(scaling), load_digits()),
    ):
        assert data.scaling == scaling
        np.testing.assert_array_equal(data.x, source.data)


def test_breast_cancer_counts() -> None:
    data = breast_cancer("none", 1.0)
    assert data.x.shape == (569, 30)
    assert [(data.y == label).sum() for label in (-1, 1)] == [
        212,
        357,
    ]  # malignant, benign, as scikit-learn documents


def test_digits_labels_are_parities() -> None:
    data = digits("none")
    assert data.x.shape == (1797, 64)
    np.testing.assert_array_equal(
        data.y == 1, [digit in (1, 3, 5, 7, 9) for digit in load_digits().target]
    )
