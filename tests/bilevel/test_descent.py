"""HOAG's loop: it finds the optimum that a scalar search finds, and its safeguards act."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from exact_losses import exact_outer_loss
from quadratic import OneStep, Quadratic, Wrong
from scipy.optimize import minimize_scalar

from shine_exp.bilevel.hypergradients.implicit import Implicit
from shine_exp.bilevel.hypergradients.unrolled import Unrolled
from shine_exp.bilevel.loops.descent import Descent, DescentState
from shine_exp.bilevel.loops.schedule import Schedule
from shine_exp.bilevel.problem import BilevelProblem
from shine_exp.bilevel.problems.linear.logistic import LogisticLoss
from shine_exp.bilevel.problems.linear.model import LinearModel
from shine_exp.data.sets.bundled import breast_cancer
from shine_exp.data.splits import split
from shine_exp.errors import UserError
from shine_exp.inverse.conjugate_gradient import ConjugateGradient
from shine_exp.inverse.jacobian_free import JacobianFree
from shine_exp.inverse.shine import Shine
from shine_exp.solvers.lbfgs import LBFGS
from shine_exp.solvers.scipy import ScipyMinimizer
from shine_exp.types import InverseMethod

SCHEDULE = Schedule("exponential", 1e-3, 0.78)


@pytest.fixture(scope="module")
def problem() -> LinearModel:
    return LinearModel(LogisticLoss(), split(breast_cancer("standard", 1.0), 0), 1)


def optimum(problem: LinearModel) -> float:
    theta = torch.zeros(problem.n_features, dtype=torch.float64)

    def outer(alpha: float) -> float:
        at = torch.tensor([alpha], dtype=torch.float64)
        return problem.outer(at, LBFGS()(problem.inner(at), theta, 1e-9).z).value

    return float(
        minimize_scalar(outer, bounds=(-6, 4), method="bounded", options={"xatol": 1e-6}).fun
    )


def last(descent: Descent, problem: BilevelProblem, seed: int = 0) -> DescentState:
    state = descent.init(problem, seed)
    for _ in range(descent.n_steps):
        state = descent.step(problem, state)
    return state


@pytest.mark.parametrize(
    ("solver", "method", "within"),
    [
        (LBFGS(10), Implicit(ConjugateGradient()), 1e-3),
        (LBFGS(30), Implicit(Shine()), 3e-3),
        (LBFGS(60, opa="countdown"), Implicit(Shine()), 3e-3),
        (LBFGS(60, opa=3), Implicit(Shine()), 3e-3),
        # Its H is made anew in each solve, from H₀ = I and the few pairs of a warm start.
        (ScipyMinimizer("L-BFGS-B"), Implicit(Shine()), 2e-2),
        # Biased: 200 gradient steps do not reach the smallest eigenvalues.
        (LBFGS(30), Unrolled(200), 2e-2),
    ],
    ids=["hoag", "shine", "opa", "opa3", "scipy", "unroll"],
)
def test_descent_reaches_outer_optimum(solver, method, within: float, problem: LinearModel) -> None:
    state = last(Descent(solver, method, SCHEDULE), problem)
    assert state.outer_value == pytest.approx(optimum(problem), rel=within)
    assert state.step == 30


@pytest.mark.parametrize("seed", range(3))
def test_descent_over_groups_does_no_worse_than_over_one_alpha(seed: int) -> None:
    splits = split(breast_cancer("standard", 1.0), seed)
    one, many = (
        last(
            Descent(LBFGS(10), Implicit(ConjugateGradient()), SCHEDULE),
            LinearModel(LogisticLoss(), splits, groups),
        )
        for groups in (1, 30)
    )
    assert many.alpha.std() > 0.1
    assert many.outer_value < one.outer_value + 1e-2


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
def test_descent_survives_wrong_hypergradients(factors: list[float]) -> None:
    problem = Quadratic()
    descent = Descent(OneStep(), Wrong(factors), SCHEDULE)
    state = descent.init(problem, 0)
    values = []
    for _ in range(30):
        before, state = state, descent.step(problem, state)
        assert float((state.alpha - before.alpha).abs().max()) <= 2.0 + 1e-12
        values.append(state.outer_value)
        if math.isfinite(before.outer_value):
            assert state.outer_value <= before.outer_value * (1 + 0.3 * math.sqrt(state.eps))
    assert values[-1] < 1.02
    assert values[-1] < min(values) * (1 + 0.3 * math.sqrt(1e-3))


def test_descent_undoes_step_that_raises_loss_and_shrinks_radius() -> None:
    problem = Quadratic()
    descent = Descent(OneStep(), Wrong([-1.0]), SCHEDULE)
    state = descent.step(problem, descent.init(problem, 0))
    refused = descent.step(problem, state)
    assert torch.equal(refused.alpha, state.alpha)
    assert refused.rejected is not None
    settled = descent.step(problem, refused)
    assert settled.rejected is None
    _, length = refused.rejected
    assert settled.radius == pytest.approx(0.5 * length)


def test_descent_alpha_stays_in_feasible_set() -> None:
    state = last(Descent(OneStep(), Wrong([1.0]), SCHEDULE), Quadratic(n=2, upper=1.5))
    assert state.alpha.tolist() == [1.5, 1.5]


def test_descent_alpha_may_have_any_shape() -> None:
    """A matrix of hyperparameters descends as the vector of its entries does."""

    class Matrix(Quadratic):
        def start(self) -> tuple[torch.Tensor, torch.Tensor]:
            alpha, theta = super().start()
            return alpha.reshape(2, 3), theta

        def inner(self, alpha, start=None):
            return super().inner(alpha.flatten(), start)

        def cross(self, alpha, theta, u):
            return super().cross(alpha, theta, u).reshape(alpha.shape)

    method = Implicit(ConjugateGradient())
    vector, matrix = (
        last(Descent(LBFGS(), method, SCHEDULE, n_steps=6), kind(n=6))
        for kind in (Quadratic, Matrix)
    )
    assert matrix.alpha.shape == (2, 3)
    torch.testing.assert_close(matrix.alpha.flatten(), vector.alpha)


def test_descent_outer_step_takes_inner_step(problem: LinearModel) -> None:
    schedule = Schedule("exponential", 1.0, 1.0)
    descent = Descent(LBFGS(10), Implicit(JacobianFree()), schedule, n_steps=6)
    state = descent.init(problem, 0)
    for _ in range(6):
        before, state = state, descent.step(problem, state)
        assert state.inner_steps > before.inner_steps


def test_descent_resumes_to_the_bit(problem: LinearModel) -> None:
    descent = Descent(LBFGS(30), Implicit(Shine()), SCHEDULE)
    state = descent.init(problem, 0)
    for _ in range(4):
        state = descent.step(problem, state)
    restored = descent.load_state_dict(problem, state.state_dict())
    for _ in range(4):
        state, restored = descent.step(problem, state), descent.step(problem, restored)
    assert torch.equal(state.alpha, restored.alpha)
    assert torch.equal(state.theta, restored.theta)


def test_descent_step_leaves_its_state_as_it_was(problem: LinearModel) -> None:
    """The solver changes its estimate in place: it is given another one than the state's."""
    descent = Descent(LBFGS(5), Implicit(Shine()), SCHEDULE)
    state = descent.step(problem, descent.init(problem, 0))
    v = torch.ones(problem.n_features, dtype=torch.float64)
    before = state.inner.estimate.matvec(v)
    descent.step(problem, state)
    assert torch.equal(state.inner.estimate.matvec(v), before)


def test_descent_warm_start_has_pairs_of_new_alpha(problem: LinearModel) -> None:
    """y of each pair moves by (e^α − e^α′) s, exactly: only the penalty depends on α."""
    descent = Descent(LBFGS(30), Implicit(Shine()), SCHEDULE)
    state = descent.step(problem, descent.init(problem, 0))
    s, y = state.inner.estimate.pairs()
    moved = problem.moved(state.inner.estimate, state.alpha, state.alpha + 1.0, state.theta)
    moved_s, moved_y = moved.estimate.pairs()
    torch.testing.assert_close(moved_y, y + (math.e - 1) * s)
    assert torch.equal(moved_s, s)


def test_schedule_kinds() -> None:
    assert Schedule("exponential", 0.1, 0.5)(3) == pytest.approx(0.025)
    assert Schedule("quadratic", 0.1, 0.5)(10) == pytest.approx(1e-3)
    assert Schedule("cubic", 0.1, 0.5)(10) == pytest.approx(1e-4)
    assert np.unique([Schedule("exact", 0.1, 0.5)(t) for t in (1, 30)]).tolist() == [1e-12]


def test_descent_row_holds_residual_of_its_theta(problem: LinearModel) -> None:
    descent = Descent(LBFGS(10), Implicit(ConjugateGradient()), SCHEDULE, n_steps=8)
    state = descent.init(problem, 0)
    for _ in range(8):
        state = descent.step(problem, state)
        reached = float(problem.inner(state.alpha)(state.theta).gradient.norm())
        assert state.inner_residual == pytest.approx(reached)
        assert state.inner_residual <= state.tol
    assert state.unsolved == {"inner": 0, "backward": 0}


def test_descent_counts_solves_that_miss_their_tolerance(problem: LinearModel) -> None:
    method = Implicit(ConjugateGradient(max_steps=1))
    descent = Descent(LBFGS(10, max_steps=2), method, SCHEDULE, n_steps=5)
    state = descent.init(problem, 0)
    for step in range(1, 6):
        state = descent.step(problem, state)
        assert state.unsolved == {"inner": step, "backward": step - 1}
        assert state.inner_residual > state.tol


def test_descent_undoes_step_to_nan() -> None:
    state = last(Descent(OneStep(), Wrong([1.0]), SCHEDULE), Quadratic(beyond=1.5))
    assert 1.0 <= float(state.alpha) <= 1.5
    assert math.isfinite(state.outer_value)


def test_descent_ends_at_hypergradient_of_nan() -> None:
    problem = Quadratic()
    descent = Descent(OneStep(), Wrong([1.0], nan_from=1), SCHEDULE)
    state = descent.step(problem, descent.init(problem, 0))
    state = descent.step(problem, state)
    assert descent.diverged(state)
    assert torch.isfinite(state.alpha).all()


def test_descent_from_stationary_start_ends() -> None:
    """Where ∇_θG is exactly 0, ε is not halved for ever."""
    state = last(Descent(OneStep(n_steps=0), Wrong([1.0]), SCHEDULE), Quadratic())
    assert state.step == 30


def test_descent_refuses_features_that_overflow() -> None:
    splits = split(breast_cancer("standard", 1.0), 0)
    x, y = splits.train
    huge = replace(splits, train=(x * 1e300, y))
    descent = Descent(LBFGS(10), Implicit(Shine()), SCHEDULE)
    with pytest.raises(UserError, match=r"data\.scaling"):
        descent.init(LinearModel(LogisticLoss(), huge), 0)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("solver", "inverse"),
    [(LBFGS(10), ConjugateGradient()), (LBFGS(30), Shine())],
    ids=["hoag", "shine"],
)
def test_descent_reaches_outer_optimum_on_badly_scaled_features(
    solver: LBFGS, inverse: InverseMethod, seed: int
) -> None:
    splits = split(breast_cancer("none", 1.0), seed)

    def outer(alpha: float) -> float:
        return exact_outer_loss(splits, alpha)

    best = min(outer(-12.0), float(minimize_scalar(outer, bounds=(-12, 0), method="bounded").fun))
    descent = Descent(solver, Implicit(inverse), SCHEDULE)
    state = last(descent, LinearModel(LogisticLoss(), splits, 1), seed)
    assert state.outer_value / len(splits.outer[1]) == pytest.approx(best, rel=0.01)
    assert state.unsolved_backward == 0
    assert state.unsolved_inner <= 3  # the last tolerances are about what rounding leaves
