"""Softmax regression and data cleaning: derivatives against finite differences and scikit-learn."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from differences import finite_differences, solved
from sklearn.linear_model import LogisticRegression

from shine_exp.bilevel.hypergradients import Implicit, Unrolled
from shine_exp.bilevel.problems.multinomial.cleaning import Cleaning, cleaning
from shine_exp.bilevel.problems.multinomial.model import MultinomialModel
from shine_exp.bilevel.problems.multinomial.softmax import (
    Penalties,
    SoftmaxRegression,
    softmax_regression,
)
from shine_exp.data.dataset import Dataset
from shine_exp.data.multiclass import MulticlassDataset
from shine_exp.data.sets.bundled import digits_classes
from shine_exp.errors import DataError, UserError
from shine_exp.inverse.full import Full

N, P, K = 90, 6, 3
Make = Callable[[], MultinomialModel]


def made(sparse: bool = False) -> MulticlassDataset:
    """Rows of three classes that overlap."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, P)) * (rng.random((N, P)) < 0.7)
    scores = x @ rng.standard_normal((P, K)) + rng.gumbel(size=(N, K))
    return MulticlassDataset(sp.csr_matrix(x) if sparse else x, scores.argmax(axis=1), "made")


def softmax(penalties: Penalties, sparse: bool = False) -> SoftmaxRegression:
    return softmax_regression(made(sparse), 0, "cpu", 0.5, 0.25, penalties, 12.0)


def cleaned(pairs: str = "keep", data: MulticlassDataset | Dataset | None = None) -> Cleaning:
    data = made() if data is None else data
    return cleaning(data, 0, "cpu", 40, 25, wrong=0.3, penalty=0.5, pairs=pairs)


PROBLEMS: dict[str, Make] = {
    "class": lambda: softmax("class"),
    "class of sparse": lambda: softmax("class", sparse=True),
    "feature": lambda: softmax("feature"),
    "groups": lambda: softmax(2),
    "one": lambda: softmax(1),
    "cleaning": cleaned,
}
every_problem = pytest.mark.parametrize("make", PROBLEMS.values(), ids=PROBLEMS)


def some(problem: MultinomialModel, seed: int = 1) -> tuple[torch.Tensor, ...]:
    """α, θ and a direction v."""
    rng = np.random.default_rng(seed)
    alpha, theta = problem.start()
    return tuple(
        torch.from_numpy(rng.standard_normal(like.shape)) for like in (alpha, theta, theta)
    )


@every_problem
def test_multinomial_derivatives_equal_finite_differences(make: Make) -> None:
    problem = make()
    alpha, theta, v = some(problem)
    start, h = problem.inner(alpha)(theta), 1e-6
    plus, minus = (problem.inner(alpha)(theta + sign * h * v).value for sign in (1, -1))
    assert (plus - minus) / (2 * h) == pytest.approx(float(start.gradient @ v), rel=1e-7)
    torch.testing.assert_close(problem.inner_gradient(alpha, theta), start.gradient)

    plus, minus = (problem.inner_gradient(alpha, theta + sign * h * v) for sign in (1, -1))
    found = problem.hessian(alpha, start)(v)
    torch.testing.assert_close(found, (plus - minus) / (2 * h), rtol=1e-6, atol=1e-6)

    leaf = alpha.clone().requires_grad_()
    (cross,) = torch.autograd.grad(problem.inner_gradient(leaf, theta), leaf, v)
    torch.testing.assert_close(problem.cross(alpha, theta, v), cross)

    plus, minus = (problem.outer(alpha, theta + sign * h * v).value for sign in (1, -1))
    slope = float(problem.outer(alpha, theta).gradient @ v)
    assert (plus - minus) / (2 * h) == pytest.approx(slope, rel=1e-6)


@every_problem
def test_multinomial_hypergradient_equals_finite_differences(make: Make) -> None:
    problem = make()
    alpha, _, _ = some(problem)
    at = solved(problem, alpha)
    value = Implicit(Full(factor=1.0))(problem, at, 1e-12).value
    expected = finite_differences(problem, at, 1e-4)
    assert (value - expected).norm() <= 1e-5 * expected.norm()


@every_problem
def test_multinomial_hessian_takes_several_vectors_and_is_symmetric(make: Make) -> None:
    problem = make()
    alpha, theta, _ = some(problem)
    hessian = problem.hessian(alpha, problem.inner(alpha)(theta))
    whole = hessian(torch.eye(len(theta), dtype=torch.float64))
    torch.testing.assert_close(whole, whole.T)
    torch.testing.assert_close(whole[4], hessian(torch.eye(len(theta), dtype=torch.float64)[4]))


@every_problem
def test_multinomial_ray_is_objective_on_a_line(make: Make) -> None:
    problem = make()
    alpha, theta, d = some(problem)
    objective = problem.inner(alpha)
    ray = objective(theta).ray(d)
    for t in (0.0, 0.3, 2.0):
        there = objective(theta + t * d)
        assert ray(t) == pytest.approx((there.value, float(there.gradient @ d)))
        torch.testing.assert_close(ray.end(t).gradient, there.gradient)


@every_problem
def test_multinomial_point_is_loaded_without_an_evaluation(make: Make) -> None:
    problem = make()
    alpha, theta, _ = some(problem)
    point = problem.inner(alpha)(theta)
    point.gradient  # noqa: B018
    again = problem.inner(alpha)
    loaded = again.load(point.state_dict())
    assert torch.equal(loaded.gradient, point.gradient)
    assert loaded.value == point.value
    assert again.n_evals == 0


def test_multinomial_unrolled_hypergradient_tends_to_full_one() -> None:
    problem = cleaned()
    at = solved(problem, some(problem)[0])
    exact = Implicit(Full())(problem, at, 1e-12).value
    found = Unrolled(800)(problem, at, 1e-12).value
    assert (found - exact).norm() < 1e-5 * exact.norm()


def test_softmax_of_one_penalty_is_scikit_learns() -> None:
    problem = softmax(1)
    penalty = 0.3
    at = solved(problem, torch.tensor([np.log(penalty)]))
    x, y = problem.train.x._rows.numpy(), problem.train.labels.numpy()
    theirs = LogisticRegression(
        C=1 / penalty, fit_intercept=False, solver="newton-cg", tol=1e-10, max_iter=1000
    ).fit(x, y)
    _, found = problem.as_given(at.alpha, at.theta)
    np.testing.assert_allclose(found, theirs.coef_, atol=1e-6)
    held_out = problem.test.x._rows.numpy()
    accuracy = theirs.score(held_out, problem.test.labels.numpy())
    assert problem.evaluate(at.alpha, at.theta)["accuracy"] == accuracy


def test_softmax_estimate_moves_with_the_penalty() -> None:
    """The pairs of the moved estimate are those of the Hessian at the other α."""
    problem = softmax("class")
    old, _, _ = some(problem)
    at = solved(problem, old)
    assert at.estimate is not None
    new = old + torch.tensor([0.5, -0.2, 0.1])
    s, before = at.estimate.pairs()
    moved = problem.moved(at.estimate, old, new, at.theta)
    _, after = moved.estimate.pairs()
    hessians = [problem.hessian(alpha, problem.inner(alpha)(at.theta)) for alpha in (old, new)]
    torch.testing.assert_close(after - before, hessians[1](s) - hessians[0](s))
    assert moved.n_products == 0


def test_cleaning_measures_its_pairs_again_or_keeps_them() -> None:
    problem = cleaned("measure")
    old, new, _ = *some(problem)[:1], *some(problem, 2)[:2]
    at = solved(problem, old)
    assert at.estimate is not None
    s, y = at.estimate.pairs()
    moved = problem.moved(at.estimate, old, new, at.theta)
    hessian = problem.hessian(new, problem.inner(new)(at.theta))
    torch.testing.assert_close(moved.estimate.pairs()[1], hessian(s))
    assert moved.n_products == len(s)
    kept = cleaned("keep").moved(at.estimate, old, new, at.theta)
    assert torch.equal(kept.estimate.pairs()[1], y)
    assert kept.n_products == 0


def test_cleaning_makes_so_many_labels_wrong_and_leaves_the_others() -> None:
    wrong, right = cleaned(), cleaning(made(), 0, "cpu", 40, 25, 0.0, 0.5, "keep")
    assert int(wrong.wrong.sum()) == wrong.facts["n_wrong"] == 12
    assert torch.equal(wrong.train.labels != right.train.labels, wrong.wrong)
    for part in ("outer_set", "test"):
        assert torch.equal(getattr(wrong, part).labels, getattr(right, part).labels)
    other = cleaning(made(), 1, "cpu", 40, 25, 0.3, 0.5, "keep")
    assert not torch.equal(other.wrong, wrong.wrong)


def test_cleaning_measures_detection_of_wrong_labels() -> None:
    problem = cleaned()
    _, theta = problem.start()
    perfect = torch.where(problem.wrong, -1.0, 1.0).double()
    assert problem.evaluate(perfect, theta)["f1"] == 1.0
    assert problem.evaluate(-perfect, theta)["f1"] == 0.0
    # All 40 named, 12 of them wrong: precision .3, recall 1.
    assert problem.evaluate(-perfect.abs(), theta)["f1"] == pytest.approx(2 * 12 / 52)
    assert problem.evaluate(0 * perfect, theta)["weight_on_wrong"] == pytest.approx(0.3)


def test_cleaning_baselines_are_trainings_on_right_and_on_all_rows() -> None:
    problem = cleaned()
    x, y = problem.train.x._rows.numpy(), problem.train.labels.numpy()
    for name, rows in (("right rows only", ~problem.wrong.numpy()), ("all rows", slice(None))):
        theirs = LogisticRegression(C=2.0, fit_intercept=False, tol=1e-8).fit(x[rows], y[rows])
        accuracy = theirs.score(problem.test.x._rows.numpy(), problem.test.labels.numpy())
        assert problem.baselines[name]["accuracy"] == pytest.approx(accuracy)


def test_multinomial_problems_take_two_classes() -> None:
    data = made()
    binary = Dataset(data.x, np.where(data.labels == 0, 1.0, -1.0), "two", "standard")
    assert cleaned(data=binary).shape == (2, P)
    assert softmax_regression(binary, 0, "cpu", 0.5, 0.25, "class", 12.0).shape == (2, P)


def test_multinomial_problems_refuse_rows_and_groups_that_are_not_there() -> None:
    with pytest.raises(DataError, match="made: has 90 rows, of which 80 training and 25 outer"):
        cleaning(made(), 0, "cpu", 80, 25, 0.5, 1.0, "keep")
    with pytest.raises(DataError, match="leave none to hold out"):
        softmax_regression(made(), 0, "cpu", 0.7, 0.3, "class", 12.0)
    with pytest.raises(UserError, match=r"problem.penalties=7: the data have 6 features"):
        softmax(7)


def test_digits_have_a_hyperparameter_for_each_class_or_row() -> None:
    data = digits_classes("none")
    assert softmax_regression(data, 0, "cpu", 0.6, 0.2, "class", 12.0).start()[0].shape == (10,)
    problem = cleaning(data, 0, "cpu", 1000, 400, 0.5, 1.0, "keep")
    assert problem.start()[0].shape == (1000,)
    assert len(problem.test.labels) == 397
