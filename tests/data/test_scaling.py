import platform
import warnings
from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from shine_exp.data.dataset import Dataset, Matrix, Scaling
from shine_exp.data.scaling import SAFE_EXPONENT, check_size, scaled
from shine_exp.data.splits import split
from shine_exp.errors import DataError

RNG = np.random.default_rng(0)
X = RNG.standard_normal((300, 4)) * [1, 10, 0.1, 3] + 5
X[RNG.random(X.shape) < 0.3] = 0
Y = np.where(np.arange(300) % 2, 1.0, -1.0)
FUSED = platform.machine() not in ("x86_64", "AMD64")  # a product and its sum may be rounded once
KINDS: list[tuple[Scaling, bool]] = [("variance", False), ("variance", True), ("standard", False)]


def dense(x: Matrix) -> np.ndarray:
    return np.asarray(x.todense()) if sp.issparse(x) else x


def data(x: np.ndarray, scaling: Scaling, sparse: bool = False) -> Dataset:
    return Dataset(sp.csr_matrix(x) if sparse else x, Y, "made", scaling)


def refusal(of: Dataset) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError) as caught:
            split(of, 0)
    assert str(caught.value).isprintable(), "one line"
    return str(caught.value)


@pytest.mark.parametrize(("scaling", "sparse"), KINDS)
@given(exponents=st.lists(st.integers(-1000, 1000), min_size=4, max_size=4))
@settings(max_examples=25)
def test_scaled_features_do_not_depend_on_their_unit(
    scaling: Scaling, sparse: bool, exponents: list[int]
) -> None:
    plain, other = (split(data(x, scaling, sparse), 0) for x in (X, np.ldexp(X, exponents)))
    for a, b in ((plain.train, other.train), (plain.outer, other.outer), (plain.test, other.test)):
        np.testing.assert_allclose(dense(a[0]), dense(b[0]), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("scaling", "sparse"), KINDS)
@pytest.mark.parametrize("factor", [1e160, 1e307, 1e-200, 1e-300])
def test_extreme_features_are_scaled_to_unit_variance(
    scaling: Scaling, sparse: bool, factor: float
) -> None:
    x = X / np.abs(X).max() * factor
    train = dense(split(data(x, scaling, sparse), 0).train[0])
    np.testing.assert_allclose(train.std(axis=0), 1, rtol=1e-12)


def test_standard_deviation_is_exact_at_the_ends_of_float64() -> None:
    x = np.array([[1e308], [-1e308], [5e307], [0.0]])
    exact = [Fraction(float(v)) for v in x[:, 0]]
    mean = sum(exact) / 4
    unit = Fraction(10) ** 308
    std = float(sum(((v - mean) / unit) ** 2 for v in exact) / 4) ** 0.5
    found = scaled([x], centred=True)[0]
    np.testing.assert_allclose(
        found[:, 0], [float((v - mean) / unit) / std for v in exact], rtol=1e-12
    )


@st.composite
def features(draw: st.DrawFn) -> np.ndarray:
    """Rows of features that need no power of 2: of any values, or of almost one value."""
    n = draw(st.integers(1, 30))
    size = st.floats(1e-89, 1e89)
    value = st.one_of(st.just(0.0), size, size.map(float.__neg__))
    columns = []
    for _ in range(draw(st.integers(1, 4))):
        most = draw(st.sampled_from([None, 3, 3000]))  # steps: 3 are rounding, 3000 are not
        if most is None:
            columns.append(draw(st.lists(value, min_size=n, max_size=n)))
        else:
            steps = draw(st.lists(st.integers(-most, most), min_size=n, max_size=n))
            columns.append(draw(size) * (1 + np.finfo(np.float64).eps * np.array(steps)))
    return np.column_stack(columns)


@pytest.mark.parametrize(
    ("scaling", "sparse"),
    [
        ("variance", False),
        pytest.param("variance", True, marks=pytest.mark.skipif(FUSED, reason="rounded otherwise")),
        ("standard", False),
    ],
)
@given(x=features())
@example(x=X)
def test_usual_features_have_scikit_learns_bits(
    scaling: Scaling,
    sparse: bool,
    x: np.ndarray,
) -> None:
    parts = [sp.csr_matrix(x), sp.csr_matrix(-x)] if sparse else [x, -x]
    scaler = StandardScaler(with_mean=scaling == "standard").fit(parts[0])
    for found, part in zip(scaled(parts, scaling == "standard"), parts, strict=True):
        np.testing.assert_array_equal(dense(found), dense(scaler.transform(part)))


@pytest.mark.parametrize(("scaling", "sparse"), KINDS)
def test_narrower_numbers_are_summed_in_float64(scaling: Scaling, sparse: bool) -> None:
    narrow = (X * 1000).astype(np.float32)
    for x in (narrow, narrow.astype(np.int32)):
        one, other = (sp.csr_matrix(rows) if sparse else rows for rows in (x, x.astype(np.float64)))
        (found,), (expected,) = (scaled([rows], scaling == "standard") for rows in (one, other))
        np.testing.assert_allclose(dense(found), dense(expected), rtol=1e-12)


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(1, 300))
@example(0.0, 300)
@example(3.0, 300)
def test_constant_feature_is_left_as_it_is_or_centred_to_zero(value: float, n: int) -> None:
    x = X[:n].copy()
    x[:, 2] = value
    np.testing.assert_array_equal(scaled([x], centred=False)[0][:, 2], value)
    rounding = 1e-12 * max(1.0, min(abs(value), 2.0**SAFE_EXPONENT))
    np.testing.assert_allclose(scaled([x], centred=True)[0][:, 2], 0, atol=rounding)
    sparse = scaled([sp.csr_matrix(x)], centred=False)[0]
    np.testing.assert_array_equal(dense(sparse)[:, 2], value)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("factor", [1e70, 1e160, 1e307])
def test_unscaled_features_too_large_for_products_are_refused(sparse: bool, factor: float) -> None:
    x = X / np.abs(X).max() * factor
    assert refusal(data(x, "none", sparse)) == (
        f"made: the training set of seed 0 has features of up to {factor:.1e}, "
        "too large to compute with in float64; use data.scaling=variance, or other units"
    )


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("factor", [1e-70, 1e-200, 1e-310])
def test_unscaled_features_too_small_for_products_are_refused(sparse: bool, factor: float) -> None:
    x = X / np.abs(X).max() * factor
    assert "too small to compute with in float64; use data.scaling=variance" in refusal(
        data(x, "none", sparse)
    )


@pytest.mark.parametrize(("scaling", "sparse"), KINDS)
def test_row_that_scaling_cannot_tame_is_refused(scaling: Scaling, sparse: bool) -> None:
    rows = split(data(np.column_stack([np.arange(300.0), X[:, 1:]]), "none"), 0)
    for name, part, factor in (("outer", rows.outer, 1e-200), ("held-out", rows.test, 1.0)):
        x = X * factor
        x[int(part[0][0, 0]), 1] = 1e307
        assert f"made: the {name} set of seed 0 has features of up to " in refusal(
            data(x, scaling, sparse)
        )


def test_rows_without_a_feature_are_refused_where_nothing_could_be_learnt() -> None:
    rows = split(data(np.column_stack([np.arange(300.0)] * 4), "none"), 0)
    for name, part, refused in (
        ("training", rows.train, True),
        ("outer", rows.outer, True),
        ("held-out", rows.test, False),
    ):
        x = X.copy()
        x[part[0][:, 0].astype(int)] = 0
        if refused:
            message = (
                f"made: the {name} set of seed 0 has no feature other than 0; "
                "take another seed or more rows"
            )
            assert refusal(data(x, "none")) == refusal(data(x, "none", sparse=True)) == message
        else:
            split(data(x, "none"), 0)


@given(st.floats(1e-59, 1e59), st.booleans())
def test_sizes_between_are_computed_with(factor: float, sparse: bool) -> None:
    x = np.eye(3) * factor
    check_size(sp.csr_matrix(x) if sparse else x, "toy", may_be_zero=False)
