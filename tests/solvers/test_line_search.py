"""The strong Wolfe conditions, on functions with known shapes."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shine_exp.solvers.line_search import StrongWolfe


class Curve:
    def __init__(self, value, slope) -> None:
        self.value, self.slope = value, slope

    def __call__(self, t: float) -> tuple[float, float]:
        return self.value(t), self.slope(t)


@given(
    minimum=st.floats(1e-3, 1e3),
    first=st.floats(1e-4, 1e4),
    quartic=st.floats(0.0, 1.0),
    c2=st.sampled_from([0.1, 0.9]),
)
@settings(max_examples=200)
def test_line_search_step_meets_both_conditions(
    minimum: float, first: float, quartic: float, c2: float
) -> None:
    def value(t: float) -> float:
        x = t / minimum - 1
        return x * x + quartic * x**4

    def slope(t: float) -> float:
        x = t / minimum - 1
        return (2 * x + 4 * quartic * x**3) / minimum

    search = StrongWolfe(c2=c2)
    t = search(Curve(value, slope), value(0), slope(0), first)
    assert t is not None
    assert value(t) <= value(0) + search.c1 * t * slope(0)
    assert abs(slope(t)) <= c2 * abs(slope(0)) * (1 + 1e-12)


def test_line_search_backs_away_from_infinite_values() -> None:
    def value(t: float) -> float:
        return -math.log(1 - t) - 4 * t if t < 1 else math.inf

    def slope(t: float) -> float:
        return 1 / (1 - t) - 4 if t < 1 else math.nan

    t = StrongWolfe()(Curve(value, slope), value(0), slope(0), 100.0)
    assert t is not None
    assert 0 < t < 1
    assert value(t) < value(0)


def test_line_search_without_decrease_finds_no_step() -> None:
    assert StrongWolfe()(Curve(lambda t: 1.0 + t, lambda t: 1.0), 1.0, -1.0) is None


def test_line_search_goes_by_slope_where_rounding_hides_decrease() -> None:
    base, scale = 1e3, 1e-16  # the decrease, 1e-16, is below the spacing of floats at 1000
    curve = Curve(lambda t: base + scale * ((t - 1) ** 2 - 1), lambda t: 2 * scale * (t - 1))
    assert StrongWolfe()(curve, base, -2 * scale, 1.0) == pytest.approx(1.0)
