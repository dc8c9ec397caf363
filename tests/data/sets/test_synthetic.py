import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from shine_exp.data.dataset import Dataset
from shine_exp.data.sets.synthetic import gaussian, synthetic_text
from shine_exp.data.splits import split
from shine_exp.errors import DataError


def losses(data: Dataset, alphas: list[float]) -> np.ndarray:
    """Mean held-out log loss of logistic regression with penalty (e^α/2)‖θ‖²."""
    parts = split(data, seed=0)
    x, y = parts.test
    models = [
        LogisticRegression(C=np.exp(-a), fit_intercept=False, max_iter=2000).fit(*parts.train)
        for a in alphas
    ]
    return np.array([np.logaddexp(0, -y * (x @ model.coef_[0])).mean() for model in models])


def test_text_rows_look_like_text() -> None:
    data = synthetic_text(2000, 5000, 50, seed=0, scaling="variance")
    assert data.x.shape == (2000, 5000)
    assert data.x.dtype == np.float64
    assert data.x.has_canonical_format
    assert data.scaling == "variance"
    assert data.x.nnz / 2000 == pytest.approx(50, rel=0.02)
    np.testing.assert_allclose(data.x.power(2).sum(axis=1), 1.0)
    assert np.abs(data.y.mean()) < 0.1


def test_word_frequencies_follow_zipf_and_are_scattered() -> None:
    data = synthetic_text(5000, 2000, 40, seed=1, scaling="none")
    documents = np.bincount(data.x.indices, minlength=2000) / 5000
    falling = np.sort(documents)[::-1]
    assert falling[30] / falling[300] == pytest.approx(10, rel=0.35)
    assert abs(np.corrcoef(documents, np.arange(2000))[0, 1]) < 0.1


@given(st.integers(40, 90), st.integers(2, 200), st.data())
@settings(max_examples=40)
def test_text_has_the_sizes_asked_for(n: int, p: int, draw: st.DataObject) -> None:
    nnz_per_row = draw.draw(st.integers(1, p // 2))
    data = synthetic_text(n, p, nnz_per_row, seed=5, scaling="none")
    assert data.x.shape == (n, p)
    assert np.diff(data.x.indptr).min() >= 1
    assert data.x.nnz / n == pytest.approx(
        nnz_per_row + 0.5, abs=0.5 + 4 * np.sqrt(nnz_per_row / n)
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_penalty_of_text_has_an_interior_optimum(seed: int) -> None:
    loss = losses(synthetic_text(2000, 5000, 50, seed, "none"), [-12, -7, -5, -3, -1, 1, 12])
    assert loss.min() < 0.6, "learns"
    assert loss.min() < 0.9 * loss[-1], "too much penalty costs"
    assert loss.min() < 0.5 * loss[0], "too little costs"


def test_penalty_of_gaussian_has_an_interior_optimum() -> None:
    loss = losses(gaussian(500, 30, 0, "none"), [-12, 0, 2, 4, 6, 12])
    assert loss.min() < 0.97 * min(loss[0], loss[-1])


def test_gaussian_rows_are_standard_normal() -> None:
    data = gaussian(5000, 6, seed=0, scaling="standard")
    assert data.scaling == "standard"
    np.testing.assert_allclose(data.x.mean(axis=0), 0, atol=0.06)
    np.testing.assert_allclose(np.cov(data.x.T), np.eye(6), atol=0.08)


def test_seed_decides_everything() -> None:
    for make in (
        lambda seed: synthetic_text(100, 50, 5, seed, "none"),
        lambda seed: gaussian(100, 5, seed, "none"),
    ):
        first, again, other = make(0), make(0), make(1)
        assert (first.x != again.x).sum() == 0
        np.testing.assert_array_equal(first.y, again.y)
        assert (first.x != other.x).sum() > 0
        assert (first.y != other.y).any()


def test_row_order_does_not_carry_the_class() -> None:
    for data in (synthetic_text(4000, 50, 5, 0, "none"), gaussian(4000, 5, 0, "none")):
        share = (data.y > 0).mean()
        assert (np.diff(data.y) != 0).mean() == pytest.approx(2 * share * (1 - share), abs=0.03)
        assert abs(np.corrcoef(data.y, np.arange(4000))[0, 1]) < 0.06


@pytest.mark.parametrize(
    ("n", "p", "nnz_per_row", "seed", "named"),
    [
        (0, 9, 1, 0, "data.n=0 must be at least 1"),
        (9, 0, 1, 0, "data.p=0 must be at least 1"),
        (9, 9, 1, -1, "data.seed=-1 must be at least 0"),
        (9, 9, 0, 0, "data.nnz_per_row=0 is not between 1 and 4"),
        (9, 9, 5, 0, "data.nnz_per_row=5 is not between 1 and 4"),
    ],
)
def test_refuses_sizes_without_sense(
    n: int, p: int, nnz_per_row: int, seed: int, named: str
) -> None:
    with pytest.raises(DataError, match=named):
        synthetic_text(n, p, nnz_per_row, seed, "none")
    if "nnz" not in named:
        with pytest.raises(DataError, match=named):
            gaussian(n, p, seed, "none")
