"""Derivatives and hypergradients against finite differences and dense algebra, in float64."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from differences import finite_differences, solved

from shine_exp.bilevel.hypergradients import Implicit, Unrolled
from shine_exp.bilevel.problems.design_matrix import scaled_columns
from shine_exp.bilevel.problems.linear.logistic import LogisticLoss
from shine_exp.bilevel.problems.linear.model import LinearModel, Loss
from shine_exp.bilevel.problems.linear.nonlinear_least_squares import SquaredSigmoidLoss
from shine_exp.data.dataset import Dataset
from shine_exp.data.splits import Splits, split
from shine_exp.inverse.full import Full

LOSSES = [LogisticLoss(), SquaredSigmoidLoss()]
P = 10


def splits(sparse: bool) -> Splits:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, P)) * (rng.random((300, P)) < 0.5)
    y = np.where(x @ rng.standard_normal(P) + 0.5 * rng.standard_normal(300) > 0, 1.0, -1.0)
    return split(Dataset(sp.csr_matrix(x) if sparse else x, y, "made", "none"), seed=0)


def model(loss: Loss, groups: int = 1, sparse: bool = True) -> LinearModel:
    return LinearModel(loss, splits(sparse), groups)


def point(seed: int = 1) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(P))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("groups", [1, 4])
def test_linear_model_inner_derivatives_equal_finite_differences(loss: Loss, groups: int) -> None:
    problem = model(loss, groups)
    alpha = torch.linspace(-1, 1, groups, dtype=torch.float64)
    theta, v = point(), point(2)
    start = problem.inner(alpha)(theta)
    h = 1e-6
    plus, minus = (problem.inner(alpha)(theta + sign * h * v).value for sign in (1, -1))
    assert (plus - minus) / (2 * h) == pytest.approx(float(start.gradient @ v), rel=1e-7)
    torch.testing.assert_close(problem.inner_gradient(alpha, theta), start.gradient)

    plus, minus = (problem.inner_gradient(alpha, theta + sign * h * v) for sign in (1, -1))
    found = problem.hessian(alpha, start)(v)
    torch.testing.assert_close(found, (plus - minus) / (2 * h), rtol=1e-6, atol=1e-6)

    cross = []
    for e in torch.eye(groups, dtype=torch.float64):
        plus, minus = (problem.inner_gradient(alpha + sign * h * e, theta) for sign in (1, -1))
        cross.append((plus - minus) @ v / (2 * h))
    found = problem.cross(alpha, theta, v)
    torch.testing.assert_close(found, torch.stack(cross), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("loss", LOSSES)
def test_linear_ray_is_objective_on_a_line(loss: Loss) -> None:
    objective = model(loss).inner(torch.zeros(1, dtype=torch.float64))
    theta, d = point(), point(3)
    ray = objective(theta).ray(d)
    for t in (0.0, 0.3, 2.0):
        there = objective(theta + t * d)
        assert ray(t) == pytest.approx((there.value, float(there.gradient @ d)))
        torch.testing.assert_close(ray.end(t).gradient, there.gradient)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("groups", [1, 4, P])
@pytest.mark.parametrize("sparse", [True, False])
def test_linear_model_full_hypergradient_equals_finite_differences(
    loss: Loss, groups: int, sparse: bool
) -> None:
    problem = model(loss, groups, sparse)
    alpha = torch.linspace(-1, 1, groups, dtype=torch.float64)
    at = solved(problem, alpha)
    value = Implicit(Full(factor=1.0))(problem, at, 1e-12).value
    expected = finite_differences(problem, at, 1e-4)
    assert (value - expected).norm() <= 1e-6 * expected.norm()


def test_unrolled_hypergradient_tends_to_full_one() -> None:
    problem = model(LogisticLoss(), 4)
    alpha = torch.linspace(-1, 1, 4, dtype=torch.float64)
    at = solved(problem, alpha)
    exact = Implicit(Full())(problem, at, 1e-12).value
    found = (Unrolled(n)(problem, at, 1e-12).value for n in (5, 50, 500))
    errors = [float((value - exact).norm() / exact.norm()) for value in found]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-6


def test_unrolled_counts_products_of_smoothness_once() -> None:
    problem = model(LogisticLoss())
    alpha = torch.zeros(1, dtype=torch.float64)
    at = solved(problem, alpha)
    first = Unrolled(5)(problem, at, 1e-12)
    second = Unrolled(5)(problem, at, 1e-12, previous=first)
    assert first.n_products == 10 + problem.train_norm.n_products
    assert second.n_products == 10


@pytest.mark.parametrize("loss", LOSSES)
def test_linear_model_smoothness_bounds_hessian(loss: Loss) -> None:
    problem, alpha = model(loss, 4), torch.linspace(-1, 1, 4, dtype=torch.float64)
    for seed in range(5):
        at = problem.inner(alpha)(point(seed))
        hessian = problem.hessian(alpha, at)(torch.eye(P, dtype=torch.float64))
        bound = problem.smoothness(alpha, at).value
        assert float(torch.linalg.matrix_norm(hessian, 2)) <= bound


@pytest.mark.parametrize("groups", [1, 4])
def test_linear_objective_move_of_alpha_costs_no_pass_over_data(groups: int) -> None:
    problem = model(LogisticLoss(), groups)
    alpha = torch.zeros(groups, dtype=torch.float64)
    at = solved(problem, alpha)
    objective = problem.inner(alpha + 1, at.point)
    moved, anew = objective(at.theta), problem.inner(alpha + 1)(at.theta)
    torch.testing.assert_close(moved.gradient, anew.gradient)
    assert moved.value == pytest.approx(anew.value)
    assert objective.n_evals == 0
    assert moved.margins is at.point.margins


def test_linear_point_saved_is_same_to_the_bit() -> None:
    problem, alpha = model(LogisticLoss()), torch.zeros(1, dtype=torch.float64)
    at = solved(problem, alpha).point
    objective = problem.inner(alpha)
    loaded = objective.load(at.state_dict())
    assert torch.equal(loaded.gradient, at.gradient)
    assert loaded.value == at.value
    assert objective.n_evals == 0
    v = point(3)
    hessian, again = (problem.hessian(alpha, there) for there in (at, loaded))
    assert torch.equal(hessian(v), again(v))


def test_linear_model_train_norm_is_largest_singular_value() -> None:
    problem = model(LogisticLoss())
    x, _ = splits(False).train
    exact = np.linalg.norm(x, 2) ** 2
    assert 0.95 * exact < problem.train_norm.value <= exact * (1 + 1e-9)


def test_linear_model_evaluates_mean_loss_and_accuracy_of_right_sets() -> None:
    problem, theta = model(LogisticLoss()), point()
    parts = splits(False)
    measured = problem.evaluate(torch.zeros(1), theta)
    assert tuple(measured) == problem.columns
    for name, (x, y) in (("outer_loss", parts.outer), ("test_loss", parts.test)):
        assert measured[name] == pytest.approx(np.logaddexp(0, -y * (x @ theta.numpy())).mean())
    x, y = parts.test
    assert measured["accuracy"] == pytest.approx(np.mean(np.sign(x @ theta.numpy()) == y))


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("groups", [1, 4])
def test_linear_model_with_rescaled_columns_is_same_problem(sparse: bool, groups: int) -> None:
    """A column in units 10⁷ times as small is the same problem, in a θ₃ 10⁷ times as small."""
    plain = splits(sparse)
    factors = np.ones(P)
    factors[3] = 1e7
    stretched = Splits(
        *(scaled_columns_of(rows, factors) for rows in (plain.train, plain.outer, plain.test))
    )
    problem = LinearModel(LogisticLoss(), stretched, groups)
    assert problem.scales is not None
    alpha = torch.linspace(-1, 1, groups, dtype=torch.float64)
    theta = point() / torch.from_numpy(factors)
    x, y = (torch.as_tensor(part) for part in (dense(stretched.train[0]), stretched.train[1]))
    value = (
        torch.nn.functional.softplus(-y * (x @ theta)).sum()
        + 0.5 * (alpha.exp()[problem.groups] * theta) @ theta
    )
    phi = problem.in_solved_variables(theta)
    torch.testing.assert_close(problem.as_given(alpha, phi)[1], theta)
    assert problem.inner(alpha)(phi).value == pytest.approx(float(value), rel=1e-12)
    # ∂²G/∂α∂θ · v is the same number in either variable.
    v = point(2) / torch.from_numpy(factors)
    contributions = alpha.exp()[problem.groups] * theta * v
    expected = torch.zeros(groups, dtype=torch.float64).index_add_(0, problem.groups, contributions)
    torch.testing.assert_close(problem.cross(alpha, phi, problem.in_solved_variables(v)), expected)


def dense(x: object) -> np.ndarray:
    return x.toarray() if sp.issparse(x) else x


def scaled_columns_of(rows: tuple, factors: np.ndarray) -> tuple:
    return scaled_columns(rows[0], factors), rows[1]
