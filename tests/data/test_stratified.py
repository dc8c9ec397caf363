import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from shine_exp.data.multiclass import MulticlassDataset
from shine_exp.data.stratified import stratified_split
from shine_exp.errors import DataError


def made(counts: list[int], sparse: bool = False) -> MulticlassDataset:
    """Rows that can be recognised in a split by column 0, their number, with so many a class."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    x = np.column_stack([np.arange(len(labels)), np.ones(len(labels))])
    return MulticlassDataset(sp.csr_matrix(x) if sparse else x, labels, "made")


@given(
    counts=st.lists(st.integers(20, 90), min_size=2, max_size=6),
    seed=st.integers(0, 2**32 - 1),
    sparse=st.booleans(),
)
@settings(max_examples=40)
def test_every_set_has_the_classes_in_their_shares(
    counts: list[int], seed: int, sparse: bool
) -> None:
    data = made(counts, sparse)
    n = len(data.labels)
    splits = stratified_split(data, n // 2, n // 4, seed)
    found = []
    sizes = (n // 2, n // 4, n - n // 2 - n // 4)
    for (_, (x, labels)), size in zip(splits.parts(), sizes, strict=True):
        rows = (x.toarray() if sparse else x)[:, 0].astype(int)
        np.testing.assert_array_equal(labels, data.labels[rows])
        found += rows.tolist()
        assert len(rows) == size
        expected = np.array(counts) * size / n
        # A whole row of every class, and the share of a set's own ends in one of the others.
        assert (abs(np.bincount(labels, minlength=len(counts)) - expected) <= len(counts)).all()
    assert sorted(found) == list(range(n))


def test_seed_draws_the_rows() -> None:
    data = made([50, 70, 30])
    first, again, other = (stratified_split(data, 80, 40, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.train[0], again.train[0])
    assert set(first.train[0][:, 0]) != set(other.train[0][:, 0])


def test_scaling_is_that_of_the_training_rows() -> None:
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((90, 3)) * [1, 10, 0.1] + 5, np.repeat([0, 1, 2], 30)
    splits = stratified_split(MulticlassDataset(x, labels, "made", "standard"), 50, 20, 0)
    plain = stratified_split(MulticlassDataset(x, labels, "made"), 50, 20, 0)
    mean, deviation = plain.train[0].mean(axis=0), plain.train[0].std(axis=0)
    for (_, (done, _)), (_, (before, _)) in zip(splits.parts(), plain.parts(), strict=True):
        np.testing.assert_allclose(done, (before - mean) / deviation, rtol=1e-12)


def test_refuses_too_many_rows_and_a_set_without_a_class() -> None:
    with pytest.raises(DataError, match="made: has 60 rows, of which 40 training and 20 outer"):
        stratified_split(made([30, 30]), 40, 20, 0)
    with pytest.raises(DataError, match=r"made, seed 0: the .* set: class 1 has no row"):
        stratified_split(made([60, 2]), 30, 20, 0)
