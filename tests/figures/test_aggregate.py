from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shine_exp.figures.aggregate import FloatArray, StepFunction, aggregate, quantiles

MIDDLE = (0.25, 0.75)


def trace(x: list[float], y: list[float]) -> StepFunction:
    return np.array(x, dtype=float), np.array(y, dtype=float)


def step_values(x: FloatArray, y: FloatArray, at: FloatArray) -> FloatArray:
    """The last y at or before each point, NaN before the first."""
    index = np.searchsorted(x, at, side="right") - 1
    return np.where(index < 0, np.nan, y[index])


def test_aggregate_of_three_seeds_by_hand() -> None:
    curve = aggregate(
        [trace([0, 2], [8, 4]), trace([0, 1], [6, 2]), trace([0, 3], [4, 1])], MIDDLE, log=False
    )
    # Seeds end at 2, 1 and 3: the grid ends at the median, 2, with the second seed held at 2 and
    # the third still at 4.
    np.testing.assert_array_equal(curve.x, [0, 1, 2])
    np.testing.assert_array_equal(curve.median, [6, 4, 4])
    np.testing.assert_array_equal(curve.low, [5, 3, 3])
    np.testing.assert_array_equal(curve.high, [7, 6, 4])


def test_aggregate_interpolates_tenths_between_seeds() -> None:
    curve = aggregate([trace([0], [value]) for value in range(11)], (0.1, 0.9), log=False)
    assert (curve.low.item(), curve.median.item(), curve.high.item()) == (1, 5, 9)


def test_aggregate_ignores_a_seed_that_has_not_begun() -> None:
    curve = aggregate(
        [trace([1, 5], [8, 2]), trace([2, 5], [6, 2]), trace([3, 5], [1, 2])], MIDDLE, log=False
    )
    np.testing.assert_array_equal(curve.x, [2, 3, 5])
    np.testing.assert_array_equal(curve.median, [7, 6, 2])


def test_aggregate_on_logarithmic_grid_shows_what_holds_from_zero() -> None:
    curve = aggregate([trace([0, 4, 8], [3, 2, 1])], MIDDLE, log=True)
    np.testing.assert_array_equal(curve.x, [2, 4, 8])
    np.testing.assert_array_equal(curve.median, [3, 2, 1])


@pytest.mark.parametrize("log", [False, True])
def test_aggregate_of_empty_traces_is_no_curve(log: bool) -> None:
    assert len(aggregate([trace([], [])], MIDDLE, log=log).x) == 0
    one = aggregate([trace([], []), trace([1, 2], [5, 3])], MIDDLE, log=log)
    np.testing.assert_array_equal(one.median, [5, 3])


def test_aggregate_on_logarithmic_grid_leaves_out_a_run_that_cost_nothing() -> None:
    assert len(aggregate([trace([0], [1])], MIDDLE, log=True).x) == 0


@st.composite
def traces(draw: st.DrawFn, least: int = 1, most: int = 5) -> list[StepFunction]:
    numbers = st.floats(-1e6, 1e6, allow_nan=False)
    many = []
    for _ in range(draw(st.integers(least, most))):
        rows = draw(
            st.lists(
                st.tuples(st.floats(0, 1e4, allow_subnormal=False), numbers), min_size=1, max_size=6
            )
        )
        many.append(trace(sorted(x for x, _ in rows), [y for _, y in rows]))
    return many


@given(traces(most=8), st.booleans())
def test_aggregate_equals_quantiles_of_all_step_functions(
    many: list[StepFunction], log: bool
) -> None:
    curve = aggregate(many, (0.1, 0.9), log=log)
    values = np.array([step_values(x, y, curve.x) for x, y in many])
    if len(curve.x):
        expected = np.nanquantile(values, [0.1, 0.5, 0.9], axis=0)
        np.testing.assert_allclose(
            [curve.low, curve.median, curve.high], expected, rtol=1e-12, atol=1e-9
        )


def test_aggregate_counts_a_failed_seed_as_infinite_from_then_on() -> None:
    many = [
        trace([0, 1, 2], [4, 3, 2]),
        trace([0, 1, 2], [5, np.inf, np.inf]),
        trace([0, 1, 2], [6, 5, np.inf]),
    ]
    curve = aggregate(many, MIDDLE, log=False)
    np.testing.assert_array_equal(curve.low, [4.5, 4, np.inf])
    np.testing.assert_array_equal(curve.median, [5, 5, np.inf])
    np.testing.assert_array_equal(curve.high, [5.5, np.inf, np.inf])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, np.inf], [1, np.inf, np.inf]),
        ([1, 2, np.inf], [1, 2, np.inf]),
        ([np.inf], [np.inf] * 3),
        ([np.inf, np.inf], [np.inf] * 3),
        ([3], [3, 3, 3]),
        ([4, 1, 2, 3], [1, 2.5, 4]),
    ],
)
def test_quantiles_with_infinite_values(values: list[float], expected: list[float]) -> None:
    np.testing.assert_array_equal(quantiles(np.array(values, dtype=float), (0, 0.5, 1)), expected)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), st.floats(0, 1))
def test_quantiles_are_those_of_numpy(values: list[float], share: float) -> None:
    (value,) = quantiles(np.array(values), [share])
    assert value == pytest.approx(np.quantile(values, share), rel=1e-12, abs=1e-9)


@given(traces(), st.booleans())
def test_aggregate_median_lies_in_the_band_and_the_band_among_the_seeds(
    many: list[StepFunction], log: bool
) -> None:
    curve = aggregate(many, (0.1, 0.9), log=log)
    values = np.array([step_values(x, y, curve.x) for x, y in many])
    assert np.all(np.diff(curve.x) > 0)
    assert np.all(curve.low <= curve.median)
    assert np.all(curve.median <= curve.high)
    assert np.all(np.nanmin(values, axis=0, initial=np.inf) <= curve.low + 1e-6)
    assert np.all(curve.high - 1e-6 <= np.nanmax(values, axis=0, initial=-np.inf))


@given(traces(most=1))
def test_aggregate_of_a_single_seed_is_its_step_function(one: list[StepFunction]) -> None:
    ((x, y),) = one
    curve = aggregate(one, (0.1, 0.9), log=False)
    np.testing.assert_array_equal(curve.x, np.unique(x))
    np.testing.assert_allclose(curve.median, step_values(x, y, curve.x))


@given(traces(least=2), st.randoms())
def test_aggregate_does_not_depend_on_the_order_of_seeds(
    many: list[StepFunction], random: Random
) -> None:
    shuffled = list(many)
    random.shuffle(shuffled)
    a, b = aggregate(many, (0.1, 0.9), log=False), aggregate(shuffled, (0.1, 0.9), log=False)
    np.testing.assert_array_equal(a.x, b.x)
    np.testing.assert_array_equal(a.median, b.median)
