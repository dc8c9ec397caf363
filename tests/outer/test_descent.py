"""HOAG's loop: it finds the optimum that a scalar search finds, and its safeguards act."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from shine_exp.data.bundled import breast_cancer
from shine_exp.data.splits import split
from shine_exp.inverse.conjugate_gradient import ConjugateGradient
from shine_exp.inverse.jacobian_free import JacobianFree
from shine_exp.inverse.shine import Shine
from shine_exp.outer.descent import Descent, DescentState, Hypergradient, Inner
from shine_exp.outer.hoag import Implicit
from shine_exp.outer.schedule import Schedule
from shine_exp.outer.unroll import Unrolled
from shine_exp.problems.linear_model import LinearModel
from shine_exp.problems.logistic import LogisticRegression
from shine_exp.solvers.lbfgs import LBFGS
from shine_exp.solvers.scipy import ScipyMinimizer
from shine_exp.types import Status

SCHEDULE = Schedule("exponential", 1e-3, 0.78)


@pytest.fixture(scope="module")
def problem() -> LinearModel:
    return LogisticRegression(split(breast_cancer("standard", 1.0), 0), 1, "cpu")


def optimum(problem: LinearModel) -> float:
    theta = torch.zeros(problem.n_features, dtype=torch.float64)

    def outer(alpha: float) -> float:
        return problem.outer(LBFGS()(problem.inner(torch.tensor([alpha], dtype=torch.float64)), theta, 1e-9).z)[0]

    return float(minimize_scalar(outer, bounds=(-6, 4), method="bounded", options={"xatol": 1e-6}).fun)


def last(descent: Descent, problem: LinearModel, seed: int = 0) -> DescentState:
    state = descent.begin(problem, seed)
    for _ in range(descent.n_steps):
        state = descent.advance(problem, state)
    return state


@pytest.mark.parametrize(
    ("oracle", "within"),
    [
        (Implicit(LBFGS(10), ConjugateGradient()), 1e-3),
        (Implicit(LBFGS(30), Shine()), 3e-3),
        (Implicit(LBFGS(60), Shine(), "countdown"), 3e-3),
        (Implicit(LBFGS(60), Shine(), 3), 3e-3),
        (Implicit(ScipyMinimizer("L-BFGS-B"), Shine()), 3e-3),
        (Unrolled(LBFGS(30), 200), 2e-2),  # biased: 200 gradient steps do not reach the smallest eigenvalues
    ],
    ids=["hoag", "shine", "opa", "opa3", "scipy", "unroll"],
)
def test_the_outer_optimum_is_reached(oracle, within: float, problem: LinearModel) -> None:
    state = last(Descent(oracle, SCHEDULE), problem)
    assert state.outer_value == pytest.approx(optimum(problem), rel=within)
    assert state.step == 30


@pytest.mark.parametrize("seed", range(3))
def test_groups_do_no_worse_than_one_hyperparameter(seed: int) -> None:
    splits = split(breast_cancer("standard", 1.0), seed)
    one, many = (
        last(Descent(Implicit(LBFGS(10), ConjugateGradient()), SCHEDULE), LogisticRegression(splits, groups, "cpu"))
        for groups in (1, 30)
    )
    assert many.alpha.std() > 0.1
    assert many.outer_value < one.outer_value + 1e-2


class FixedOracle:
    """An outer loss (α − 2)² whose hypergradient is off by a factor, or has the wrong sign now and then."""

    def __init__(self, factors: list[float]) -> None:
        self.factors = factors

    def solve(self, problem: object, state: DescentState, alpha: torch.Tensor, tol: float, left: int) -> Inner:
        return Inner(alpha, 1.0 + float((alpha - 2).square().sum()), 0.0, 1, 1, Status.CONVERGED, {})

    def hypergradient(self, problem: object, state: DescentState) -> Hypergradient:
        return Hypergradient(2 * (state.alpha - 2) * self.factors[state.step % len(self.factors)], 3, True, {})


@pytest.mark.parametrize(
    "factors",
    [[1.0], [10.0], [0.1], [1.0, 3.0, 0.3], [1.0, 1.0, 1.0, 1.0, -1.0], [1.0, 1.0, 1.0, -1.0], [50.0, -2.0, 0.5]],
)
def test_wrong_hypergradients_are_survived(factors: list[float], problem: LinearModel) -> None:
    descent = Descent(FixedOracle(factors), SCHEDULE)
    state = descent.begin(problem, 0)
    values = []
    for _ in range(30):
        before, state = state, descent.advance(problem, state)
        assert float((state.alpha - before.alpha).abs().max()) <= 1.0 + 1e-12
        values.append(state.outer_value)
        if math.isfinite(before.outer_value):
            assert state.outer_value <= before.outer_value * (1 + 0.3 * math.sqrt(state.eps))
    assert values[-1] < 1.02
    assert values[-1] < min(values) * (1 + 0.3 * math.sqrt(1e-3))


def test_a_step_that_raises_the_loss_is_undone_and_the_radius_shrinks(problem: LinearModel) -> None:
    descent = Descent(FixedOracle([-1.0]), SCHEDULE)
    state = descent.advance(problem, descent.begin(problem, 0))
    refused = descent.advance(problem, state)
    assert torch.equal(refused.alpha, state.alpha)
    assert refused.rejected is not None
    settled = descent.advance(problem, refused)
    assert settled.rejected is None
    assert settled.radius == pytest.approx(0.5 * refused.rejected[1])


def test_alpha_stays_in_the_box(problem: LinearModel) -> None:
    state = last(Descent(FixedOracle([1.0]), SCHEDULE, bound=1.5), problem)
    assert state.alpha.tolist() == [1.5]


def test_an_outer_step_takes_an_inner_step(problem: LinearModel) -> None:
    descent = Descent(Implicit(LBFGS(10), JacobianFree()), Schedule("exponential", 1.0, 1.0), n_steps=6)
    state = descent.begin(problem, 0)
    for _ in range(6):
        before, state = state, descent.advance(problem, state)
        assert state.inner_steps > before.inner_steps


def test_a_saved_state_goes_on_as_it_would_have(problem: LinearModel) -> None:
    descent = Descent(Implicit(LBFGS(30), Shine()), SCHEDULE)
    state = descent.begin(problem, 0)
    for _ in range(4):
        state = descent.advance(problem, state)
    restored = descent.restore(problem, state.as_dict())
    for _ in range(4):
        state, restored = descent.advance(problem, state), descent.advance(problem, restored)
    assert torch.equal(state.alpha, restored.alpha)
    assert torch.equal(state.theta, restored.theta)


def test_the_warm_started_estimate_belongs_to_the_new_alpha(problem: LinearModel) -> None:
    """Every pair moved to another α is the pair that this α's Hessian gives, for a quadratic part of the objective."""
    implicit = Implicit(LBFGS(30), Shine())
    descent = Descent(implicit, SCHEDULE)
    state = descent.advance(problem, descent.begin(problem, 0))
    moved = implicit._estimate(problem, state, state.alpha + 1.0)
    s, y = state.carry["s"], state.carry["y"]
    shifted = moved.pairs()
    torch.testing.assert_close(shifted[1], y + (math.e - 1) * s)
    assert torch.equal(shifted[0], s)
    assert torch.equal(implicit._estimate(problem, state, state.alpha).pairs()[1], y)
    assert implicit._estimate(problem, replace(state, carry={}), state.alpha) is None


def test_schedules() -> None:
    assert Schedule("exponential", 0.1, 0.5)(3) == pytest.approx(0.025)
    assert Schedule("quadratic", 0.1, 0.5)(10) == pytest.approx(1e-3)
    assert Schedule("cubic", 0.1, 0.5)(10) == pytest.approx(1e-4)
    assert np.unique([Schedule("exact", 0.1, 0.5)(t) for t in (1, 30)]).tolist() == [1e-12]
