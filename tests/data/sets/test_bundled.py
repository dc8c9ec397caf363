from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import train_test_split

from shine_exp.data.dataset import Scaling
from shine_exp.data.sets import bundled
from shine_exp.data.sets.bundled import breast_cancer, digits, digits_images
from shine_exp.errors import DataError


@pytest.mark.parametrize("scaling", ["none", "variance", "standard"])
def test_scaling_is_handed_on_and_not_applied(scaling: Scaling) -> None:
    for data, source in (
        (breast_cancer(scaling, 1.0), load_breast_cancer()),
        (digits(scaling), load_digits()),
    ):
        assert data.scaling == scaling
        assert data.x.dtype == np.float64
        np.testing.assert_array_equal(data.x, source.data)


def test_breast_cancer_labels() -> None:
    data = breast_cancer("none", 1.0)
    assert data.x.shape == (569, 30)
    malignant, benign = 212, 357  # as scikit-learn documents
    assert [(data.y == label).sum() for label in (-1, 1)] == [malignant, benign]
    np.testing.assert_array_equal(data.y == 1, load_breast_cancer().target)


def test_fraction_of_breast_cancer_is_drawn_by_scikit_learn() -> None:
    data = breast_cancer("none", 0.3)
    source = load_breast_cancer(return_X_y=True)
    x, _, target, _ = train_test_split(*source, train_size=0.3, random_state=0)
    np.testing.assert_array_equal(data.x, x)
    np.testing.assert_array_equal(data.y == 1, target)


def test_digits_labels_are_parities() -> None:
    data = digits("none")
    assert data.x.shape == (1797, 64)
    np.testing.assert_array_equal(
        data.y == 1, [digit in (1, 3, 5, 7, 9) for digit in load_digits().target]
    )


def test_digits_images_are_drawn_by_scikit_learn() -> None:
    images = digits_images(seed=3, test_fraction=0.2)
    source = load_digits()
    draw = {"test_size": 0.2, "random_state": 3, "stratify": source.target}
    train, test = train_test_split(np.arange(1797), **draw)
    for part, rows in ((images.train, train), (images.test, test)):
        np.testing.assert_array_equal(part.labels, source.target[rows])
        np.testing.assert_array_equal(part.pixels[:, 0], np.rint(source.images[rows] * 255 / 16))


@pytest.mark.parametrize("installed", [True, False])
def test_refuses_a_scikit_learn_without_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    spec = ModuleSpec("sklearn", None, origin=str(tmp_path / "__init__.py")) if installed else None
    monkeypatch.setattr(bundled, "find_spec", {"sklearn": spec}.get)
    message = "datasets/data/digits.csv.gz: cannot be read " if installed else "^digits.csv.gz: "
    with pytest.raises(DataError, match=message + ".*scikit-learn") as caught:
        digits("none")
    assert str(caught.value).isprintable(), "one line"
