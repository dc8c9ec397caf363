"""The line through noisy hypergradients of one hyperparameter finds the zero of the exact ones."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shine_exp.bilevel.loops.secant_line import LEADS_AWAY, SecantLine

MAX_MOVE = 2.0


def walk(gradient, alpha: float, n: int, max_move: float = MAX_MOVE) -> tuple[float, SecantLine]:
    """α after n steps from line to line, none longer than `max_move`."""
    line = SecantLine.through(alpha, gradient(alpha))
    for _ in range(n):
        alpha += min(max(line.step, -max_move), max_move)
        line = line.updated(alpha, gradient(alpha), max_move)
    return alpha, line


@given(st.floats(0.1, 20), st.floats(-8, 8), st.floats(-8, 8))
def test_secant_line_finds_zero_of_exact_gradients(
    curvature: float, zero: float, start: float
) -> None:
    alpha, _ = walk(lambda a: curvature * (a - zero), start, 30)
    assert alpha == pytest.approx(zero, abs=1e-2)


@pytest.mark.parametrize("seed", range(5))
def test_secant_line_averages_errors(seed: int) -> None:
    rng = np.random.default_rng(seed)
    alpha, _ = walk(lambda a: 5 * (a + 5.7) + rng.normal(0, 2), 0.0, 60)
    # A single hypergradient has an error of 0.4 in units of α.
    assert alpha == pytest.approx(-5.7, abs=0.3)


def test_secant_line_follows_long_way_of_vanishing_gradient() -> None:
    def gradient(alpha: float) -> float:
        return math.exp(0.5 * alpha)

    alpha, line = walk(gradient, 0.0, 20)
    assert alpha < -12
    assert not line.bracketed


def test_secant_line_goes_downhill_where_h_is_not_convex() -> None:
    line = SecantLine.through(0.0, 1.0).updated(-1.0, 2.0, MAX_MOVE)
    assert line.step == -math.inf
    up = SecantLine.through(0.0, -1.0).updated(1.0, -2.0, MAX_MOVE)
    assert up.step == math.inf


def test_secant_line_leaves_a_change_of_sign_that_was_noise() -> None:
    line = SecantLine.through(0.0, 1.0).updated(-0.1, -0.01, MAX_MOVE)
    assert line.bracketed
    for i in range(LEADS_AWAY):
        assert line.bracketed
        line = line.updated(-0.2 - 0.1 * i, 1.0 - 0.05 * i, MAX_MOVE)
    assert not line.bracketed


def test_secant_line_is_what_its_state_says() -> None:
    line = SecantLine.through(0.5, 3.0).updated(0.1, -1.0, MAX_MOVE).updated(0.2, 0.5, MAX_MOVE)
    assert SecantLine(**line.state_dict()) == line
