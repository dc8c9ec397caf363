"""AutodiffProblem against LinearModel, finite differences and dense algebra."""

import math
from dataclasses import replace

import pytest
import torch
from differences import finite_differences, solved
from quadratic import Quadratic
from torch import Tensor
from torch.nn.functional import softplus

from shine_exp.bilevel.hypergradients import Implicit, Unrolled, hypergradient
from shine_exp.bilevel.loops.descent import Descent
from shine_exp.bilevel.loops.schedule import Schedule
from shine_exp.bilevel.loops.search import Grid, Search
from shine_exp.bilevel.problems.autodiff import AutodiffProblem
from shine_exp.bilevel.problems.linear.logistic import LogisticLoss
from shine_exp.bilevel.problems.linear.model import LinearModel
from shine_exp.data.sets.bundled import breast_cancer
from shine_exp.data.splits import split
from shine_exp.errors import UserError
from shine_exp.inverse.full import Full
from shine_exp.inverse.shine import Shine
from shine_exp.solvers.lbfgs import LBFGS

SPLITS = split(breast_cancer("standard", 1.0), 0)
X, Y = (torch.as_tensor(part) for part in SPLITS.train)
X_OUTER, Y_OUTER = (torch.as_tensor(part) for part in SPLITS.outer)
P = X.shape[1]


def inner_loss(alpha: Tensor, theta: Tensor) -> Tensor:
    groups = torch.arange(P) * len(alpha) // P
    return softplus(-Y * (X @ theta)).sum() + 0.5 * (alpha.exp()[groups] * theta) @ theta


def outer_loss(alpha: Tensor, theta: Tensor) -> Tensor:
    return softplus(-Y_OUTER * (X_OUTER @ theta)).sum()


def logistic(groups: int, **options) -> AutodiffProblem:
    alpha = torch.zeros(groups, dtype=torch.float64)
    theta = torch.zeros(P, dtype=torch.float64)
    return AutodiffProblem(inner_loss, outer_loss, alpha, theta, **options)


@pytest.mark.parametrize("groups", [1, 5])
def test_autodiff_agrees_with_linear_model(groups: int) -> None:
    """On the same problem at the same θ: every derivative, and two hypergradients."""
    ours, fast = logistic(groups), LinearModel(LogisticLoss(), SPLITS, groups)
    alpha = torch.linspace(-1, 1, groups, dtype=torch.float64)
    at, there = solved(ours, alpha), solved(fast, alpha)
    torch.testing.assert_close(at.theta, there.theta, rtol=1e-9, atol=1e-10)
    v = torch.linspace(-1, 1, P, dtype=torch.float64)
    exact = {"rtol": 1e-10, "atol": 1e-10}
    at = replace(
        there,
        point=ours.inner(alpha)(there.theta),
        outer=ours.outer(alpha, there.theta),
    )
    torch.testing.assert_close(at.point.gradient, there.point.gradient, **exact)
    torch.testing.assert_close(
        ours.hessian(alpha, at.point)(v), fast.hessian(alpha, there.point)(v), **exact
    )
    torch.testing.assert_close(
        ours.cross(alpha, at.theta, v), fast.cross(alpha, at.theta, v), **exact
    )
    for method in (Implicit(Full(factor=1.0)), Implicit(Shine())):
        found, expected = (
            method(problem, solution, 1e-13).value
            for problem, solution in ((ours, at), (fast, there))
        )
        torch.testing.assert_close(found, expected, **exact)


@pytest.mark.parametrize("groups", [1, 5])
def test_autodiff_full_hypergradient_equals_finite_differences(groups: int) -> None:
    problem = logistic(groups)
    alpha = torch.linspace(-1, 1, groups, dtype=torch.float64)
    at = solved(problem, alpha)
    value = Implicit(Full(factor=1.0))(problem, at, 1e-12).value
    expected = finite_differences(problem, at, 1e-4)
    assert (value - expected).norm() <= 1e-6 * expected.norm()


def ridge(alpha_shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> AutodiffProblem:
    """G = ½ ‖θ − B a‖² + ½ e^c ‖θ‖² and F = ‖θ‖² + Σ a³, with α = (a, c) and θ as dicts."""
    generator = torch.Generator().manual_seed(0)
    b = torch.randn(6, math.prod(alpha_shape), generator=generator, dtype=torch.float64).to(dtype)

    def inner(alpha: dict[str, Tensor], theta: dict[str, Tensor]) -> Tensor:
        flat = torch.cat([theta["matrix"].flatten(), theta["vector"]])
        fit = (flat - b @ alpha["a"].flatten()).square().sum()
        return 0.5 * fit + 0.5 * alpha["c"].exp() * flat.square().sum()

    def outer(alpha: dict[str, Tensor], theta: dict[str, Tensor]) -> Tensor:
        return (
            theta["matrix"].square().sum()
            + theta["vector"].square().sum()
            + alpha["a"].pow(3).sum()
        )

    alpha = {"a": torch.ones(alpha_shape, dtype=dtype), "c": torch.zeros((), dtype=dtype)}
    theta = {"matrix": torch.zeros(2, 2, dtype=dtype), "vector": torch.zeros(2, dtype=dtype)}
    return AutodiffProblem(inner, outer, alpha, theta)


@pytest.mark.parametrize("shape", [(3,), (2, 2)])
def test_autodiff_takes_dicts_and_outer_loss_that_depends_on_alpha(shape: tuple[int, ...]) -> None:
    problem = ridge(shape)
    alpha, theta = problem.start()
    assert alpha.shape == (math.prod(shape) + 1,)
    assert theta.shape == (6,)
    at = solved(problem, alpha)
    assert at.outer.direct is not None
    value = Implicit(Full(factor=1.0))(problem, at, 1e-12).value
    expected = finite_differences(problem, at, 1e-5)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)
    unrolled = Unrolled(200)(problem, at, 1e-12).value
    torch.testing.assert_close(unrolled, value, rtol=1e-6, atol=1e-6)


def test_autodiff_alpha_keeps_its_shape() -> None:
    b = torch.linspace(1, 2, 12, dtype=torch.float64).reshape(3, 4)
    problem = AutodiffProblem(
        lambda alpha, theta: 0.5 * (theta - (alpha * b).flatten()).square().sum(),
        lambda alpha, theta: theta.square().sum(),
        torch.ones(3, 4, dtype=torch.float64),
        torch.zeros(12, dtype=torch.float64),
    )
    found, _ = hypergradient(problem, inverse=Full(), tol=1e-10)
    torch.testing.assert_close(found.value, 2 * b * b)


def test_autodiff_works_in_single_precision() -> None:
    problem = ridge((3,), torch.float32)
    alpha, _ = problem.start()
    at = solved(problem, alpha, tol=1e-5)
    value = Implicit(Full())(problem, at, 1e-5).value
    assert value.dtype == at.theta.dtype == torch.float32
    expected = Implicit(Full())(ridge((3,)), solved(ridge((3,)), alpha.double()), 1e-12).value
    torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-4)


def test_autodiff_pairs_are_kept_dropped_or_measured_again() -> None:
    alpha = torch.zeros(1, dtype=torch.float64)
    at = solved(logistic(1), alpha, tol=1e-3)
    s, y = at.estimate.pairs()
    new = alpha + 1.0
    kept, dropped, measured = (
        logistic(1, pairs=pairs).moved(at.estimate, alpha, new, at.theta)
        for pairs in ("keep", "drop", "measure")
    )
    _, kept_y = kept.estimate.pairs()
    assert torch.equal(kept_y, y)
    assert kept.estimate is not at.estimate
    assert (kept.n_products, dropped.n_products, measured.n_products) == (0, 0, len(s))
    assert dropped.estimate is None
    problem = logistic(1)
    hessian = problem.hessian(new, problem.inner(new)(at.theta))
    _, measured_y = measured.estimate.pairs()
    torch.testing.assert_close(measured_y, hessian(s))


def test_autodiff_pairs_of_diagonal_penalty_are_shifted_exactly() -> None:
    alpha = torch.zeros(5, dtype=torch.float64)
    groups = torch.arange(P) * 5 // P
    shifting = logistic(5, pairs=lambda alpha: alpha.exp()[groups])
    measuring = logistic(5, pairs="measure")
    at = solved(shifting, alpha, tol=1e-3)
    quadratic = at.estimate.remeasured(shifting.hessian(alpha, at.point))
    new = alpha + torch.linspace(-1, 1, 5, dtype=torch.float64)
    shifted, measured = (
        problem.moved(quadratic, alpha, new, at.theta) for problem in (shifting, measuring)
    )
    assert shifted.n_products == 0
    _, shifted_y = shifted.estimate.pairs()
    _, measured_y = measured.estimate.pairs()
    torch.testing.assert_close(shifted_y, measured_y)


def test_autodiff_refuses_diagonal_of_another_shape() -> None:
    problem = logistic(1, pairs=lambda alpha: alpha.exp())
    at = solved(problem, torch.zeros(1, dtype=torch.float64), tol=1e-3)
    with pytest.raises(UserError, match="the shape of theta"):
        problem.moved(at.estimate, at.alpha, at.alpha + 1, at.theta)


@pytest.mark.parametrize("pairs", ["keep", "drop", "measure"])
def test_autodiff_descent_resumes_to_the_bit(pairs: str) -> None:
    problem = logistic(5, pairs=pairs)
    descent = Descent(LBFGS(), Implicit(Shine()), Schedule("exponential", 1e-3, 0.78), n_steps=8)
    state = descent.init(problem, 0)
    for _ in range(4):
        state = descent.step(problem, state)
    loaded = descent.load_state_dict(problem, state.state_dict())
    for _ in range(4):
        state, loaded = descent.step(problem, state), descent.step(problem, loaded)
    assert torch.equal(state.alpha, loaded.alpha)
    assert state.row() == loaded.row()


def test_autodiff_counts_evaluations_of_line_search_too() -> None:
    calls = []

    def counted(alpha: Tensor, theta: Tensor) -> Tensor:
        calls.append(1)
        return inner_loss(alpha, theta)

    theta = torch.zeros(P, dtype=torch.float64)
    problem = AutodiffProblem(counted, outer_loss, torch.zeros(1, dtype=torch.float64), theta)
    at = solved(problem, torch.zeros(1, dtype=torch.float64), tol=1e-6)
    assert at.n_evals == len(calls) > at.n_steps


def test_search_refuses_autodiff_problem_without_box() -> None:
    search = Search(Grid(), LBFGS(), 5, 1e-5)
    with pytest.raises(UserError, match="lower and an upper"):
        search.check(logistic(1))
    bounded = logistic(1, lower=-4.0, upper=4.0)
    search.check(bounded)
    state = search.init(bounded, 0)
    for _ in range(5):
        state = search.step(bounded, state)
    assert state.points.flatten().tolist() == [4, 2, 0, -2, -4]


def test_autodiff_columns_are_those_of_evaluate() -> None:
    assert logistic(1).columns == ("outer_loss",)

    def evaluate(alpha: Tensor, theta: Tensor) -> dict[str, float]:
        return {"accuracy": float((torch.sign(X_OUTER @ theta) == Y_OUTER).double().mean())}

    problem = logistic(1, evaluate=evaluate)
    assert problem.columns == ("accuracy",)
    alpha, theta = problem.start()
    assert 0 <= problem.evaluate(alpha, theta)["accuracy"] <= 1


@pytest.mark.parametrize(
    ("inner", "alpha", "message"),
    [
        (inner_loss, 1.0, "alpha must be a floating-point tensor"),
        (inner_loss, {}, "alpha must be a floating-point tensor"),
        (inner_loss, torch.zeros(1, dtype=torch.int64), "alpha must be a floating-point tensor"),
        (lambda alpha, theta: theta, torch.zeros(1), "the inner loss must return one number"),
        (lambda alpha, theta: 1.0, torch.zeros(1), "the inner loss must return one number"),
        (lambda alpha, theta: alpha.sum(), torch.zeros(1), "the inner loss does not depend on θ"),
    ],
    ids=["float", "empty", "integer", "vector", "no tensor", "without θ"],
)
def test_autodiff_refuses_what_is_no_problem(inner, alpha, message: str) -> None:
    def evaluated() -> None:
        theta = torch.zeros(P, dtype=torch.float64)
        problem = AutodiffProblem(inner, outer_loss, alpha, theta)
        problem.inner(alpha)(theta).gradient  # noqa: B018

    with pytest.raises(UserError, match=message):
        evaluated()


def test_unrolled_refuses_problem_without_inner_gradient() -> None:
    descent = Descent(LBFGS(), Unrolled(5), Schedule("exponential", 1e-3, 0.78))
    descent.check(logistic(1))
    with pytest.raises(UserError, match="Quadratic has no inner_gradient"):
        descent.check(Quadratic())


def test_autodiff_solution_is_in_the_shapes_that_were_given() -> None:
    problem = ridge((2, 2))
    alpha, theta = problem.as_given(*problem.start())
    assert {name: t.shape for name, t in alpha.items()} == {"a": (2, 2), "c": ()}
    assert {name: t.shape for name, t in theta.items()} == {"matrix": (2, 2), "vector": (2,)}
