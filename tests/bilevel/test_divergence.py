"""A loop that meets a number which is not finite says which, and where."""

import math

import numpy as np
import pytest
import torch
from quadratic import OneStep, Quadratic, Wrong
from torch import Tensor

from shine_exp.bilevel.hypergradients import Implicit
from shine_exp.bilevel.loops.descent import Descent
from shine_exp.bilevel.loops.schedule import Schedule
from shine_exp.bilevel.loops.search import Bayesian, Grid, Random, Search, Trials
from shine_exp.bilevel.problems.autodiff import AutodiffProblem
from shine_exp.inverse.shine import Shine
from shine_exp.solvers.lbfgs import LBFGS
from shine_exp.solvers.scipy import ScipyMinimizer

SCHEDULE = Schedule("exponential", 1e-3, 0.78)


def failing(inner: float = math.inf, outer: float = math.inf, start: float = 0.0):
    """h has its minimum near α = −2 from a start on the right; G, F are NaN below these α."""

    def nan_below(alpha: Tensor, limit: float) -> float:
        return math.nan if math.isfinite(limit) and float(alpha.detach()) < limit else 0.0

    def inner_loss(alpha: Tensor, theta: Tensor) -> Tensor:
        fit = 0.5 * (theta - 1).square().sum() + 0.5 * alpha.exp() * theta.square().sum()
        return fit + nan_below(alpha, inner)

    def outer_loss(alpha: Tensor, theta: Tensor) -> Tensor:
        return (theta - 0.88).square().sum() + nan_below(alpha, outer)

    alpha = torch.tensor(start, dtype=torch.float64)
    theta = torch.zeros(3, dtype=torch.float64)
    return AutodiffProblem(inner_loss, outer_loss, alpha, theta, lower=-6.0, upper=6.0)


def ended(loop, problem) -> tuple[str | None, object]:
    """The reason, and the state, where the loop ends as a run would end it."""
    loop.check(problem)
    state = loop.init(problem, 0)
    assert loop.diverged(state) is None
    while state.step < loop.length(problem) and loop.diverged(state) is None:
        state = loop.step(problem, state)
        loop.measure(problem, state)
    return loop.diverged(state), state


@pytest.mark.parametrize("solver", [LBFGS(), ScipyMinimizer("L-BFGS-B")], ids=["ours", "scipy"])
def test_descent_from_inner_loss_of_nan_ends_with_the_reason(solver) -> None:
    reason, state = ended(Descent(solver, Implicit(Shine()), SCHEDULE), failing(inner=1.0))
    assert reason == "the inner loss or its gradient is nan at α = 0"
    assert state.step == 1


def test_descent_from_outer_loss_of_nan_ends_with_the_reason() -> None:
    descent = Descent(LBFGS(), Implicit(Shine()), SCHEDULE)
    reason, state = ended(descent, failing(outer=1.0, start=0.25))
    assert (reason, state.step) == ("the outer loss is nan at α = 0.25", 1)


def test_descent_at_hypergradient_of_nan_ends_with_the_reason() -> None:
    reason, _ = ended(Descent(OneStep(), Wrong([1.0], nan_from=1), SCHEDULE), Quadratic(n=2))
    assert reason == "the hypergradient is nan at α = (0, 0)"


@pytest.mark.parametrize("where", ["inner", "outer"])
def test_descent_undoes_steps_to_loss_of_nan(where: str) -> None:
    """θ of a solve that failed at once is the old one, at which F looks as good as before."""
    reason, state = ended(Descent(LBFGS(), Implicit(Shine()), SCHEDULE), failing(**{where: -1.5}))
    assert reason is None
    assert -1.5 <= float(state.alpha) < -0.5


@pytest.mark.parametrize("where", ["inner", "outer"])
@pytest.mark.parametrize("proposer", [Grid(), Random(), Bayesian(2)], ids=["grid", "random", "gp"])
def test_search_without_a_finite_trial_ends_with_the_reason(proposer, where: str) -> None:
    reason, state = ended(Search(proposer, LBFGS(), 4, 1e-5), failing(**{where: 7.0}))
    assert reason == "the inner or the outer loss is nan or infinite at all 4 α that it tried"
    assert state.step == 4


@pytest.mark.parametrize("where", ["inner", "outer"])
def test_search_does_not_choose_a_trial_of_nan(where: str) -> None:
    reason, state = ended(Search(Grid(), LBFGS(), 5, 1e-5), failing(**{where: -2.0}))
    assert reason is None
    assert float(state.alpha) == 0.0, "of 6, 3, 0, −3 and −6"


def test_bayesian_takes_trials_that_diverged_for_the_worst() -> None:
    points = np.linspace(-1, 1, 4)[:, None]
    box = (6, np.array([-2.0]), np.array([2.0]), 0)
    with_nan = Bayesian(2)(Trials(points, np.array([3.0, 1.0, 2.0, math.nan]), *box))
    with_worst = Bayesian(2)(Trials(points, np.array([3.0, 1.0, 2.0, 3.0]), *box))
    assert with_nan == with_worst
