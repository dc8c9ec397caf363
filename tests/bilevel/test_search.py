"""Black-box search spends its budget, keeps the best, and repeats itself."""

import numpy as np
import pytest
from exact_losses import exact_outer_loss

from shine_exp.bilevel.loops.search import Bayesian, Grid, Random, Search, Trials
from shine_exp.bilevel.problems.linear.logistic import LogisticLoss
from shine_exp.bilevel.problems.linear.model import LinearModel
from shine_exp.data.sets.bundled import breast_cancer
from shine_exp.data.splits import Splits, split
from shine_exp.solvers.lbfgs import LBFGS

PROPOSERS = [Grid(), Random(), Bayesian(3)]


def propose(proposer, n: int, k: int, seed: int, loss) -> tuple[np.ndarray, np.ndarray]:
    tried, losses = np.empty((0, k)), np.empty(0)
    for _ in range(n):
        trials = Trials(tried, losses, n, np.full(k, -12.0), np.full(k, 12.0), seed)
        alpha = proposer(trials)
        tried, losses = np.vstack([tried, alpha]), np.append(losses, loss(alpha))
    return tried, losses


def valley(alpha: np.ndarray) -> float:
    return float(((alpha - 3.7) ** 2).sum())


@pytest.mark.parametrize("proposer", PROPOSERS, ids=["grid", "random", "bayes"])
@pytest.mark.parametrize("k", [1, 3])
def test_proposers_stay_in_box_and_repeat(proposer, k: int) -> None:
    first, _ = propose(proposer, 5, k, 0, valley)
    again, _ = propose(proposer, 5, k, 0, valley)
    assert first.shape == (5, k)
    assert np.abs(first).max() <= 12
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("proposer", PROPOSERS[1:], ids=["random", "bayes"])
def test_proposers_depend_on_seed(proposer) -> None:
    assert not np.array_equal(
        propose(proposer, 3, 1, 0, valley)[0], propose(proposer, 3, 1, 1, valley)[0]
    )


def test_grid_is_equally_spaced() -> None:
    np.testing.assert_allclose(
        propose(Grid(), 4, 2, 0, valley)[0], np.repeat([[12], [4], [-4], [-12]], 2, axis=1)
    )


def test_bayesian_beats_random_in_a_valley() -> None:
    bayes, random = (
        np.median([propose(p, 10, 1, s, valley)[1].min() for s in range(3)])
        for p in (Bayesian(3), Random())
    )
    assert bayes < random


def test_search_state_is_best_trial() -> None:
    problem = LinearModel(LogisticLoss(), split(breast_cancer("standard", 1.0), 0), 1)
    search = Search(Random(), LBFGS(), 6, 1e-5)
    state = search.init(problem, 0)
    for step in range(1, 7):
        state = search.step(problem, state)
        losses = state.losses
        assert state.step == len(losses) == step
        assert state.outer_value == float(losses.min())
        assert state.alpha.tolist() == state.points[losses.argmin()].tolist()
        assert problem.outer(state.alpha, state.theta).value == pytest.approx(state.outer_value)


def stretched(splits: Splits, column: int, factor: float) -> Splits:
    x, _ = splits.train
    factors = np.ones(x.shape[1])
    factors[column] = factor
    parts = ((x * factors, y) for x, y in (splits.train, splits.outer, splits.test))
    return Splits(*parts)


BADLY_SCALED = [
    split(breast_cancer("none", 1.0), 0),
    split(breast_cancer("none", 1.0), 1),
    stretched(split(breast_cancer("standard", 1.0), 0), 3, 1e8),
]


@pytest.mark.parametrize(
    "splits", BADLY_SCALED, ids=["unscaled 0", "unscaled 1", "one column × 1e8"]
)
@pytest.mark.parametrize("proposer", [Grid(), Random()], ids=["grid", "random"])
def test_search_ranks_trials_on_badly_scaled_features(proposer, splits: Splits) -> None:
    problem = LinearModel(LogisticLoss(), splits, 1)
    search = Search(proposer, LBFGS(), 10, 1e-5)
    state = search.init(problem, 0)
    for _ in range(10):
        state = search.step(problem, state)
    exact = {alpha: exact_outer_loss(splits, alpha) for alpha in state.points[:, 0].tolist()}
    assert float(state.alpha) == pytest.approx(min(exact, key=exact.__getitem__))
    assert state.outer_value / len(splits.outer[1]) == pytest.approx(min(exact.values()), rel=0.01)
    assert state.unsolved == {"inner": 0, "backward": 0}
    assert state.inner_residual <= state.tol


def test_search_counts_trials_that_solver_gives_up() -> None:
    problem = LinearModel(LogisticLoss(), split(breast_cancer("none", 1.0), 0), 1)
    search = Search(Grid(), LBFGS(max_steps=3), 4, 1e-5)
    state = search.init(problem, 0)
    for _ in range(4):
        state = search.step(problem, state)
    assert state.unsolved_inner == 4
    assert state.inner_residual > state.tol
