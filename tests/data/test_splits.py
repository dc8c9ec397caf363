import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from shine_exp.data.dataset import Dataset, Matrix, Scaling
from shine_exp.data.splits import FEWEST_ROWS, Splits, split
from shine_exp.errors import DataError


def made(n: int, scaling: Scaling = "none", sparse: bool = False) -> Dataset:
    """Rows that can be recognised in a split by column 0, their number; the classes alternate."""
    rng = np.random.default_rng(n)
    x = np.column_stack([np.arange(n), rng.standard_normal((n, 3)) * [1, 10, 0.1] + 5])
    return Dataset(
        sp.csr_matrix(x) if sparse else x, np.where(np.arange(n) % 2, 1.0, -1.0), "made", scaling
    )


def rows(part: tuple[Matrix, np.ndarray]) -> np.ndarray:
    return dense(part[0])[:, 0].astype(int)


def dense(x: Matrix) -> np.ndarray:
    return np.asarray(x.todense()) if sp.issparse(x) else x


@given(st.integers(200, 700), st.integers(0, 2**31))
@settings(max_examples=40)
def test_protocol_is_the_published_one(n: int, seed: int) -> None:
    """The same rows in the same order as two shuffles of legacy NumPy give."""
    rest = np.random.RandomState(seed).permutation(n)[: -(-n // 10)]
    again = np.random.RandomState(seed).permutation(len(rest))
    half = -(-len(rest) // 2)
    data = made(n)
    sets = np.setdiff1d(np.arange(n), rest), rest[again[:half]], rest[again[half:]]
    assume(all(len(np.unique(data.y[members])) == 2 for members in sets))  # others are refused
    parts = split(data, seed)
    np.testing.assert_array_equal(rows(parts.outer), rest[again[:half]])
    np.testing.assert_array_equal(rows(parts.test), rest[again[half:]])
    everything = np.concatenate([rows(parts.train), rows(parts.outer), rows(parts.test)])
    np.testing.assert_array_equal(np.sort(everything), np.arange(n))
    for part in (parts.train, parts.outer, parts.test):
        np.testing.assert_array_equal(part[1], data.y[rows(part)])


def test_sizes_on_twenty_newsgroups() -> None:
    parts = split(made(18846), seed=0)
    assert [len(y) for _, y in (parts.train, parts.outer, parts.test)] == [16961, 943, 942]


@pytest.mark.parametrize(
    ("scaling", "sparse"),
    [("none", False), ("none", True), ("variance", False), ("variance", True), ("standard", False)],
)
@given(seed=st.integers(0, 1000), factor=st.floats(-1e6, 1e6))
@settings(max_examples=15)
def test_rows_outside_train_do_not_influence_it(
    scaling: Scaling, sparse: bool, seed: int, factor: float
) -> None:
    data = made(300, scaling, sparse)
    outside = np.setdiff1d(np.arange(300), rows(split(made(300), seed).train))
    x = dense(data.x).copy()
    x[outside] = factor * x[outside] + 17
    changed = Dataset(sp.csr_matrix(x) if sparse else x, data.y, "changed", scaling)
    np.testing.assert_array_equal(
        dense(split(changed, seed).train[0]), dense(split(data, seed).train[0])
    )


def scaled(scaling: Scaling, sparse: bool) -> tuple[Splits, Splits]:
    return split(made(300, "none", sparse), 1), split(made(300, scaling, sparse), 1)


@pytest.mark.parametrize(
    ("scaling", "sparse"), [("variance", False), ("variance", True), ("standard", False)]
)
def test_scaling_is_that_of_the_training_rows_in_every_set(scaling: Scaling, sparse: bool) -> None:
    plain, done = scaled(scaling, sparse)
    train = dense(plain.train[0])
    shift = train.mean(axis=0) if scaling == "standard" else 0.0
    for before, after in (
        (plain.train, done.train),
        (plain.outer, done.outer),
        (plain.test, done.test),
    ):
        np.testing.assert_allclose(
            dense(after[0]), (dense(before[0]) - shift) / train.std(axis=0), rtol=1e-12
        )


def test_refuses_too_few_rows() -> None:
    with pytest.raises(
        DataError, match=r"^made: has 30 rows; two rows in every set need at least 31$"
    ):
        split(made(FEWEST_ROWS - 1), seed=0)


def test_refuses_a_set_with_one_class() -> None:
    parts = split(made(100), seed=3)
    for name, part in (("training", parts.train), ("outer", parts.outer), ("held-out", parts.test)):
        y = np.where(np.arange(100) % 2, 1.0, -1.0)
        y[rows(part)] = 1.0
        with pytest.raises(
            DataError,
            match=rf"^made: the {name} set of seed 3 \({len(part[1])} rows\) has one class",
        ):
            split(Dataset(made(100).x, y, "made", "none"), seed=3)


def test_smallest_allowed_size_can_be_split() -> None:
    for seed in range(60):
        try:
            parts = split(made(FEWEST_ROWS), seed)
        except DataError:
            continue
        assert len(parts.test[1]) == 2
        return
    pytest.fail("no seed splits the smallest allowed data set")


@given(n=st.integers(FEWEST_ROWS, 400), seed=st.integers(0, 2**32 - 1), sparse=st.booleans())
def test_rows_are_those_of_train_test_split(n: int, seed: int, sparse: bool) -> None:
    data = made(n, sparse=sparse)
    train, rest = train_test_split(np.arange(n), test_size=0.1, random_state=seed)
    test, outer = train_test_split(rest, test_size=0.5, random_state=seed)
    assume(all(len(np.unique(data.y[part])) == 2 for part in (train, outer, test)))
    drawn = split(data, seed)
    for part, expected in ((drawn.train, train), (drawn.outer, outer), (drawn.test, test)):
        assert rows(part).tolist() == expected.tolist()
        assert part[1].tolist() == data.y[expected].tolist()
