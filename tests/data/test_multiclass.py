import numpy as np
import pytest
import scipy.sparse as sp

from shine_exp.data.dataset import Dataset
from shine_exp.data.multiclass import MulticlassDataset, MulticlassSplits, counted_from_zero
from shine_exp.errors import DataError

X = np.arange(12.0).reshape(6, 2)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def refusal(labels: np.ndarray) -> str:
    with pytest.raises(DataError) as caught:
        MulticlassDataset(X, labels, "toy")
    assert str(caught.value).isprintable(), "one line"
    return str(caught.value)


def test_classes_are_counted() -> None:
    assert MulticlassDataset(X, LABELS, "toy").n_classes == 3


def test_refuses_an_empty_class_and_a_single_one() -> None:
    assert "toy: class 1 has no row, of classes 0 to 2;" in refusal(np.array([0, 2, 2, 0, 0, 2]))
    assert "toy: class 1 has no row, of classes 0 to 1;" in refusal(np.zeros(6, np.int64))


def test_refuses_labels_that_are_no_classes() -> None:
    assert "labels must be 6 integers (int64), one a row" in refusal(LABELS.astype(float))
    assert "labels must be 6 integers (int64), one a row" in refusal(LABELS[:5])
    assert "has the label -1; labels count from 0" in refusal(LABELS - 1)


def test_refuses_features_and_shapes_that_do_not_fit() -> None:
    with pytest.raises(DataError, match="toy: feature 2 of row 3 is NaN or infinite"):
        MulticlassDataset(np.where(X == 5.0, np.nan, X), LABELS, "toy")
    with pytest.raises(DataError, match="centring would make sparse data dense"):
        MulticlassDataset(sp.csr_matrix(X), LABELS, "toy", "standard")
    with pytest.raises(DataError, match=r"rows of 2 features are no images of shape \(1, 2, 2\)"):
        MulticlassDataset(X, LABELS, "toy", shape=(1, 2, 2))


def test_two_classes_become_zero_and_one() -> None:
    binary = Dataset(X, np.array([-1.0, 1, 1, -1, 1, 1]), "toy", "standard")
    data = MulticlassDataset.of(binary)
    assert data.labels.tolist() == [0, 1, 1, 0, 1, 1]
    assert (data.name, data.scaling) == ("toy", "standard")


def test_digest_knows_features_labels_and_scaling() -> None:
    data = MulticlassDataset(X, LABELS, "toy")
    others = (
        MulticlassDataset(X + 1, LABELS, "toy"),
        MulticlassDataset(X, LABELS[::-1].copy(), "toy"),
        MulticlassDataset(X, LABELS, "toy", "standard"),
    )
    assert len({data.digest, *(other.digest for other in others)}) == 4
    assert data.digest == MulticlassDataset(X.copy(), LABELS.copy(), "another name").digest


def test_splits_name_the_set_that_lacks_a_class() -> None:
    rows, fewer = (X, LABELS), (X[:2], LABELS[:2])
    assert MulticlassSplits(rows, rows, rows, "toy").n_classes == 3
    with pytest.raises(DataError, match="toy: the outer set: class 2 has no row"):
        MulticlassSplits(rows, fewer, rows, "toy")


def test_labels_of_any_values_are_numbered_in_their_order() -> None:
    assert counted_from_zero(np.array([3.0, -1.0, 7.0, 3.0]), "toy").tolist() == [1, 0, 2, 1]
    with pytest.raises(DataError, match="toy: a label is NaN or infinite"):
        counted_from_zero(np.array([1.0, np.nan]), "toy")
