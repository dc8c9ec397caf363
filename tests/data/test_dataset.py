import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shine_exp.data.dataset import Dataset, Scaling, two_classes
from shine_exp.errors import DataError

Y = np.array([-1.0, 1.0, 1.0])


@given(
    st.sampled_from([np.nan, np.inf, -np.inf]), st.integers(0, 2), st.integers(0, 3), st.booleans()
)
def test_names_the_place_of_a_feature_that_is_not_finite(
    bad: float, row: int, column: int, sparse: bool
) -> None:
    x = np.array([[1.0, 0, 0, 2], [0, 3, 0, 0], [0, 0, 0, 4]])
    x[row, column] = bad
    with pytest.raises(
        DataError, match=rf"^toy: feature {column + 1} of row {row + 1} is NaN or infinite"
    ):
        Dataset(sp.csr_matrix(x) if sparse else x, Y, "toy", "none")


def test_names_the_first_of_several_bad_features() -> None:
    with pytest.raises(DataError, match="feature 2 of row 1 "):
        Dataset(np.asfortranarray([[0.0, np.nan], [np.nan, 0.0], [0.0, 0.0]]), Y, "toy", "none")


@pytest.mark.parametrize("labels", [[0.0, 1.0, 1.0], [1.0, 1.0, 1.0], [-1.0, 0.0, 1.0]])
def test_refuses_labels_other_than_minus_one_and_one(labels: list[float]) -> None:
    with pytest.raises(DataError, match="labels must be −1 and \\+1"):
        Dataset(np.zeros((3, 1)), np.array(labels), "toy", "none")


def test_refuses_a_scaling_that_is_unknown() -> None:
    with pytest.raises(DataError, match="must be one of none, variance, standard, but is minmax"):
        Dataset(np.zeros((3, 1)), Y, "toy", "minmax")  # type: ignore[arg-type]


@pytest.mark.parametrize("scaling", ["none", "variance"])
def test_refuses_centring_of_sparse_rows_only(scaling: Scaling) -> None:
    x = sp.csr_matrix(np.eye(3))
    Dataset(x, Y, "toy", scaling)
    with pytest.raises(
        DataError, match=r"make sparse data dense; use data.scaling=variance or none"
    ):
        Dataset(x, Y, "toy", "standard")


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.tuples(finite, finite).filter(lambda pair: pair[0] < pair[1]),
    arrays(bool, st.integers(0, 9)),
)
def test_smaller_of_two_labels_becomes_minus_one(
    pair: tuple[float, float], upper: np.ndarray
) -> None:
    upper = np.concatenate([[True, False], upper])
    np.testing.assert_array_equal(
        two_classes(np.where(upper, pair[1], pair[0]), "toy"), np.where(upper, 1.0, -1.0)
    )


def test_refuses_labels_that_are_not_two_finite_values() -> None:
    with pytest.raises(DataError, match=r"two classes, but has 8: 0, 1, 2, 3, 4, 5, …$"):
        two_classes(np.arange(8.0), "toy")
    with pytest.raises(DataError, match=r"two classes, but has 1: 3$"):
        two_classes(np.full(4, 3.0), "toy")
    with pytest.raises(DataError, match="a label is NaN"):
        two_classes(np.array([1.0, np.nan]), "toy")
