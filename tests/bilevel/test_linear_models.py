"""Gradients, Hessians and hypergradients against finite differences and dense algebra, in float64."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from shine_exp.bilevel.descent import DescentState
from shine_exp.bilevel.hypergradients.implicit import Implicit
from shine_exp.bilevel.hypergradients.unrolled import Unrolled
from shine_exp.bilevel.problems.design_matrix import DesignMatrix, column_scales, scaled_columns
from shine_exp.bilevel.problems.feature_groups import feature_groups
from shine_exp.bilevel.problems.linear_model import LinearModel
from shine_exp.bilevel.problems.logistic import LogisticRegression
from shine_exp.bilevel.problems.nonlinear_least_squares import NonlinearLeastSquares
from shine_exp.data.dataset import Dataset
from shine_exp.data.splits import Splits, split
from shine_exp.errors import UserError
from shine_exp.inverse.full import Full
from shine_exp.solvers.lbfgs import LBFGS

PROBLEMS = [LogisticRegression, NonlinearLeastSquares]
P = 10


def splits(sparse: bool) -> Splits:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, P)) * (rng.random((300, P)) < 0.5)
    y = np.where(x @ rng.standard_normal(P) + 0.5 * rng.standard_normal(300) > 0, 1.0, -1.0)
    return split(Dataset(sp.csr_matrix(x) if sparse else x, y, "made", "none"), seed=0)


def model(kind: type[LinearModel], groups: int = 1, sparse: bool = True) -> LinearModel:
    return kind(splits=splits(sparse), groups=groups, device="cpu")


def point(seed: int = 1) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(P))


@pytest.mark.parametrize("sparse", [True, False])
def test_design_matrix(sparse: bool) -> None:
    x = splits(sparse).train[0]
    dense = torch.from_numpy(x.toarray() if sparse else x)
    design = DesignMatrix(x)
    w = torch.randn(2, 3, P, dtype=torch.float64, requires_grad=True)
    z = torch.randn(len(dense), dtype=torch.float64)
    torch.testing.assert_close(design.matvec(w), w @ dense.T)
    torch.testing.assert_close(design.rmatvec(z), z @ dense)
    assert torch.autograd.gradcheck(design.matvec, w)
    assert torch.autograd.gradgradcheck(lambda v: design.matvec(v) ** 2, w)


@pytest.mark.parametrize("kind", PROBLEMS)
@pytest.mark.parametrize("groups", [1, 4])
def test_inner_derivatives(kind: type[LinearModel], groups: int) -> None:
    problem = model(kind, groups)
    alpha = torch.linspace(-1, 1, groups, dtype=torch.float64)
    theta, v = point(), point(2)
    start = problem.inner(alpha)(theta)
    h = 1e-6
    difference = (
        problem.inner(alpha)(theta + h * v).value - problem.inner(alpha)(theta - h * v).value
    ) / (2 * h)
    assert difference == pytest.approx(float(start.gradient @ v), rel=1e-7)
    torch.testing.assert_close(problem.inner_gradient(alpha, theta), start.gradient)
    columns = [
        (
            problem.inner_gradient(alpha, theta + h * e)
            - problem.inner_gradient(alpha, theta - h * e)
        )
        / (2 * h)
        for e in torch.eye(P, dtype=torch.float64)
    ]
    torch.testing.assert_close(
        problem.hessian(alpha, theta)(v), torch.stack(columns) @ v, rtol=1e-6, atol=1e-6
    )
    cross = [
        (
            problem.inner_gradient(alpha + h * e, theta)
            - problem.inner_gradient(alpha - h * e, theta)
        )
        @ v
        / (2 * h)
        for e in torch.eye(groups, dtype=torch.float64)
    ]
    torch.testing.assert_close(
        problem.cross(alpha, theta, v), torch.stack(cross), rtol=1e-6, atol=1e-8
    )


@pytest.mark.parametrize("kind", PROBLEMS)
def test_rays_are_the_objective_on_a_line(kind: type[LinearModel]) -> None:
    objective = model(kind).inner(torch.zeros(1, dtype=torch.float64))
    theta, d = point(), point(3)
    ray = objective(theta).ray(d)
    for t in (0.0, 0.3, 2.0):
        there = objective(theta + t * d)
        assert ray(t) == pytest.approx((there.value, float(there.gradient @ d)))
        torch.testing.assert_close(ray.end(t).gradient, there.gradient)


def solved(problem: LinearModel, alpha: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    return LBFGS(memory=None)(problem.inner(alpha), start, 1e-11).z


@pytest.mark.parametrize("kind", PROBLEMS)
@pytest.mark.parametrize("groups", [1, 4, P])
@pytest.mark.parametrize("sparse", [True, False])
def test_the_full_hypergradient_equals_finite_differences(
    kind: type[LinearModel], groups: int, sparse: bool
) -> None:
    problem = model(kind, groups, sparse)
    alpha = torch.linspace(-1, 1, groups, dtype=torch.float64)
    theta = solved(problem, alpha, torch.zeros(P, dtype=torch.float64))
    state = DescentState(1, alpha, theta, eps=1e-12)
    value = Implicit(LBFGS(), Full(factor=1.0)).hypergradient(problem, state).value
    h = 1e-4
    differences = []
    for e in torch.eye(groups, dtype=torch.float64):
        plus, minus = (
            problem.outer(solved(problem, alpha + sign * h * e, theta))[0] for sign in (1, -1)
        )
        differences.append((plus - minus) / (2 * h))
    expected = torch.tensor(differences, dtype=torch.float64)
    assert (value - expected).norm() <= 1e-6 * expected.norm()


def test_the_unrolled_hypergradient_tends_to_the_full_one() -> None:
    problem = model(LogisticRegression, 4)
    alpha = torch.linspace(-1, 1, 4, dtype=torch.float64)
    theta = solved(problem, alpha, torch.zeros(P, dtype=torch.float64))
    state = DescentState(1, alpha, theta, eps=1e-12)
    exact = Implicit(LBFGS(), Full()).hypergradient(problem, state).value
    errors = [
        float(
            (Unrolled(LBFGS(), n).hypergradient(problem, state).value - exact).norm() / exact.norm()
        )
        for n in (5, 50, 500)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-6


def test_the_squared_norm_is_the_largest_singular_value() -> None:
    problem = model(LogisticRegression)
    exact = np.linalg.norm(splits(False).train[0], 2) ** 2
    assert 0.95 * exact < problem.train_norm.square <= exact * (1 + 1e-9)


def test_evaluation_is_mean_loss_and_accuracy_of_the_right_sets() -> None:
    problem, theta = model(LogisticRegression), point()
    parts = splits(False)
    measured = problem.evaluate(theta)
    for value, (x, y) in ((measured.outer_loss, parts.outer), (measured.test_loss, parts.test)):
        assert value == pytest.approx(np.logaddexp(0, -y * (x @ theta.numpy())).mean())
    x, y = parts.test
    assert measured.accuracy == pytest.approx(np.mean(np.sign(x @ theta.numpy()) == y))


def test_groups(tmp_path) -> None:
    assert feature_groups(3, 7).tolist() == [0, 0, 0, 1, 1, 2, 2]
    path = tmp_path / "groups.txt"
    path.write_text("5\n5\n2\n9\n")
    assert feature_groups(str(path), 4).tolist() == [1, 1, 0, 2]
    for groups, features, message in (
        (0, 4, "1 to 4"),
        (5, 4, "1 to 4"),
        (str(path), 5, "4 integers"),
        ("no", 3, "nor"),
    ):
        with pytest.raises(UserError, match=message):
            feature_groups(groups, features)
    path.write_text("1\nx\n")
    with pytest.raises(UserError, match="not a list of integers"):
        feature_groups(str(path), 2)


@pytest.mark.parametrize("sparse", [True, False])
def test_column_scales_are_powers_of_two_for_badly_scaled_columns_only(sparse: bool) -> None:
    x = np.array([[1.0, -3e-8, 0.0, 5e9], [0.5, 1e-8, 0.0, 0.0]])
    scales = column_scales(sp.csr_matrix(x) if sparse else x)
    assert scales is not None
    np.testing.assert_array_equal(np.frexp(scales)[0], 0.5)
    largest = np.abs(x * scales).max(axis=0)
    assert ((largest[[0, 1, 3]] >= 0.5) & (largest[[0, 1, 3]] < 1)).all()
    assert scales[2] == 1.0
    plain = x[:, [0, 2]]
    assert column_scales(sp.csr_matrix(plain) if sparse else plain) is None
    scaled = scaled_columns(sp.csr_matrix(x) if sparse else x, scales)
    np.testing.assert_array_equal(scaled.toarray() if sparse else scaled, x * scales)


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("groups", [1, 4])
def test_rescaled_columns_are_the_same_problem(sparse: bool, groups: int) -> None:
    """One column in units 10⁷ times as small: θ₃ is 10⁷ times as large, and its penalty as it was
    on θ₃.
    """
    plain = splits(sparse)
    factors = np.ones(P)
    factors[3] = 1e7
    stretched = Splits(
        *(scaled_columns_of(rows, factors) for rows in (plain.train, plain.outer, plain.test))
    )
    problem = LogisticRegression(stretched, groups, "cpu")
    assert problem.scales is not None
    alpha = torch.linspace(-1, 1, groups, dtype=torch.float64)
    theta = point() / torch.from_numpy(factors)
    x, y = (torch.as_tensor(part) for part in (dense(stretched.train[0]), stretched.train[1]))
    value = (
        torch.nn.functional.softplus(-y * (x @ theta)).sum()
        + 0.5 * (alpha.exp()[problem.groups] * theta) @ theta
    )
    phi = problem.start(theta)
    assert problem.inner(alpha)(phi).value == pytest.approx(float(value), rel=1e-12)
    # ∂²G/∂α∂θ · v is the same number in either variable.
    v = point(2) / torch.from_numpy(factors)
    contributions = alpha.exp()[problem.groups] * theta * v
    expected = torch.zeros(groups, dtype=torch.float64).index_add_(0, problem.groups, contributions)
    torch.testing.assert_close(problem.cross(alpha, phi, problem.start(v)), expected)


def dense(x: object) -> np.ndarray:
    return x.toarray() if sp.issparse(x) else x


def scaled_columns_of(rows: tuple, factors: np.ndarray) -> tuple:
    return scaled_columns(rows[0], factors), rows[1]
