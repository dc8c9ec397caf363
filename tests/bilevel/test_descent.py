"""HOAG's loop: it finds the optimum that a scalar search finds, and its safeguards act."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from exact_losses import exact_outer_loss
from scipy.optimize import minimize_scalar

from shine_exp.bilevel.descent import Descent, DescentState, Hypergradient, Inner
from shine_exp.bilevel.hypergradients.implicit import Implicit
from shine_exp.bilevel.hypergradients.unrolled import Unrolled
from shine_exp.bilevel.problems.linear_model import LinearModel
from shine_exp.bilevel.problems.logistic import LogisticLoss
from shine_exp.bilevel.schedule import Schedule
from shine_exp.data.sets.bundled import breast_cancer
from shine_exp.data.splits import split
from shine_exp.errors import UserError
from shine_exp.inverse.conjugate_gradient import ConjugateGradient
from shine_exp.inverse.jacobian_free import JacobianFree
from shine_exp.inverse.shine import Shine
from shine_exp.solvers.lbfgs import LBFGS
from shine_exp.solvers.scipy import ScipyMinimizer
from shine_exp.types import Status

SCHEDULE = Schedule("exponential", 1e-3, 0.78)


@pytest.fixture(scope="module")
def problem() -> LinearModel:
    return LinearModel(LogisticLoss(), split(breast_cancer("standard", 1.0), 0), 1)


def optimum(problem: LinearModel) -> float:
    theta = torch.zeros(problem.n_features, dtype=torch.float64)

    def outer(alpha: float) -> float:
        return problem.outer(
            LBFGS()(problem.inner(torch.tensor([alpha], dtype=torch.float64)), theta, 1e-9).z
        )[0]

    return float(
        minimize_scalar(outer, bounds=(-6, 4), method="bounded", options={"xatol": 1e-6}).fun
    )


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
        (
            Unrolled(LBFGS(30), 200),
            2e-2,
        ),  # biased: 200 gradient steps do not reach the smallest eigenvalues
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
        last(
            Descent(Implicit(LBFGS(10), ConjugateGradient()), SCHEDULE),
            LinearModel(LogisticLoss(), splits, groups),
        )
        for groups in (1, 30)
    )
    assert many.alpha.std() > 0.1
    assert many.outer_value < one.outer_value + 1e-2


class FixedOracle:
    """An outer loss (α − 2)² whose hypergradient is off by a factor, or has the wrong sign now and
    then.
    """

    def __init__(self, factors: list[float]) -> None:
        self.factors = factors

    def solve(
        self, problem: object, state: DescentState, alpha: torch.Tensor, tol: float, left: int
    ) -> Inner:
        return Inner(
            alpha, 1.0 + float((alpha - 2).square().sum()), 0.0, 1, 1, Status.CONVERGED, {}
        )

    def hypergradient(self, problem: object, state: DescentState) -> Hypergradient:
        return Hypergradient(
            2 * (state.alpha - 2) * self.factors[state.step % len(self.factors)], 3, True, {}
        )


@pytest.mark.parametrize(
    "factors",
    [
        [1.0],
        [10.0],
        [0.1],
        [1.0, 3.0, 0.3],
        [1.0, 1.0, 1.0, 1.0, -1.0],
        [1.0, 1.0, 1.0, -1.0],
        [50.0, -2.0, 0.5],
    ],
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
    descent = Descent(
        Implicit(LBFGS(10), JacobianFree()), Schedule("exponential", 1.0, 1.0), n_steps=6
    )
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
    """Every pair moved to another α is the pair that this α's Hessian gives, for a quadratic part
    of the objective.
    """
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


def test_a_row_holds_the_residual_of_its_theta_beside_the_tolerance(problem: LinearModel) -> None:
    descent = Descent(Implicit(LBFGS(10), ConjugateGradient()), SCHEDULE, n_steps=8)
    state = descent.begin(problem, 0)
    for _ in range(8):
        state = descent.advance(problem, state)
        reached = float(problem.inner(state.alpha)(state.theta).gradient.norm())
        assert state.inner_residual == pytest.approx(reached)
        assert state.inner_residual <= state.tol
    assert state.unsolved == {"inner": 0, "backward": 0}


def test_solves_that_miss_their_tolerance_are_counted(problem: LinearModel) -> None:
    descent = Descent(
        Implicit(LBFGS(10, max_steps=2), ConjugateGradient(max_steps=1)), SCHEDULE, n_steps=5
    )
    state = descent.begin(problem, 0)
    for step in range(1, 6):
        state = descent.advance(problem, state)
        assert state.unsolved == {"inner": step, "backward": step - 1}
        assert state.inner_residual > state.tol


class BrokenOracle(FixedOracle):
    """An outer loss or a hypergradient that is not a number, from some α or step on."""

    def __init__(self, beyond: float = math.inf, nan_at: int = 99) -> None:
        super().__init__([1.0])
        self.beyond, self.nan_at = beyond, nan_at

    def solve(
        self, problem: object, state: DescentState, alpha: torch.Tensor, tol: float, left: int
    ) -> Inner:
        inner = super().solve(problem, state, alpha, tol, left)
        return (
            replace(inner, outer_value=math.nan, status=Status.DIVERGED)
            if alpha > self.beyond
            else inner
        )

    def hypergradient(self, problem: object, state: DescentState) -> Hypergradient:
        gradient = super().hypergradient(problem, state)
        return (
            replace(gradient, value=gradient.value * math.nan)
            if state.step >= self.nan_at
            else gradient
        )


def test_a_step_to_where_the_solver_diverges_is_undone(problem: LinearModel) -> None:
    state = last(Descent(BrokenOracle(beyond=1.5), SCHEDULE), problem)
    assert 1.0 <= float(state.alpha) <= 1.5
    assert math.isfinite(state.outer_value)


def test_a_hypergradient_that_is_not_a_number_ends_the_run(problem: LinearModel) -> None:
    descent = Descent(BrokenOracle(nan_at=2), SCHEDULE)
    state = descent.advance(problem, descent.begin(problem, 0))
    state = descent.advance(problem, state)
    assert descent.diverged(state)
    assert torch.isfinite(state.alpha).all()


def test_a_stationary_start_ends(problem: LinearModel) -> None:
    """Where ∇₂G is exactly 0, ε is not halved for ever."""

    class Stationary(FixedOracle):
        def solve(
            self, problem: object, state: DescentState, alpha: torch.Tensor, tol: float, left: int
        ) -> Inner:
            return replace(super().solve(problem, state, alpha, tol, left), n_steps=0)

    state = last(Descent(Stationary([1.0]), SCHEDULE), problem)
    assert state.step == 30


def test_features_that_overflow_are_refused() -> None:
    splits = split(breast_cancer("standard", 1.0), 0)
    huge = replace(splits, train=(splits.train[0] * 1e300, splits.train[1]))
    with pytest.raises(UserError, match=r"data\.scaling"):
        Descent(Implicit(LBFGS(10), Shine()), SCHEDULE).begin(LogisticRegression(huge, 1, "cpu"), 0)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    "oracle",
    [Implicit(LBFGS(10), ConjugateGradient()), Implicit(LBFGS(30), Shine())],
    ids=["hoag", "shine"],
)
def test_the_outer_optimum_is_reached_on_badly_scaled_features(oracle: Implicit, seed: int) -> None:
    splits = split(breast_cancer("none", 1.0), seed)

    def outer(alpha: float) -> float:
        return exact_outer_loss(splits, alpha)

    best = min(outer(-12.0), float(minimize_scalar(outer, bounds=(-12, 0), method="bounded").fun))
    state = last(Descent(oracle, SCHEDULE), LinearModel(LogisticLoss(), splits, 1), seed)
    assert state.outer_value / len(splits.outer[1]) == pytest.approx(best, rel=0.01)
    assert state.unsolved == {"inner": 0, "backward": 0}
