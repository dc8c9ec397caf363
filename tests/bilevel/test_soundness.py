"""What is no bi-level problem is refused in one line, before anything is written."""

import re
from dataclasses import dataclass

import pytest
import torch
from quadratic import Quadratic

from shine_exp.bilevel.comparison import compare
from shine_exp.bilevel.hypergradients import Implicit
from shine_exp.bilevel.loops.descent import Descent
from shine_exp.bilevel.loops.schedule import Schedule
from shine_exp.bilevel.loops.search import Grid, Search
from shine_exp.bilevel.problems.autodiff import AutodiffProblem
from shine_exp.errors import UserError
from shine_exp.inverse.shine import Shine
from shine_exp.solvers.lbfgs import LBFGS

DESCENT = Descent(LBFGS(), Implicit(Shine()), Schedule("exponential", 1e-3, 0.78), n_steps=3)
ZERO = torch.zeros((), dtype=torch.float64)
ZEROS = torch.zeros(3, dtype=torch.float64)


def inner_loss(alpha, theta):
    return 0.5 * (theta - 1).square().sum() + 0.5 * alpha.exp() * theta.square().sum()


def outer_loss(alpha, theta):
    return (theta - 0.25).square().sum()


def shrinking(inner=inner_loss, outer=outer_loss, alpha=ZERO, **options) -> AutodiffProblem:
    return AutodiffProblem(inner, outer, alpha, ZEROS, **options)


def refused(says: str, problem=None, **options) -> None:
    """By the constructor or by the check of the loop, in one line."""
    with pytest.raises(UserError, match=re.escape(says)) as caught:
        DESCENT.check(shrinking(**options) if problem is None else problem)
    assert "\n" not in str(caught.value)


def test_descent_compares_hypergradients_of_scalar_and_matrix_alpha() -> None:
    descent = Descent(LBFGS(), Implicit(Shine()), DESCENT.schedule, n_steps=2, compare=True)
    problem = shrinking()
    descent.check(problem)
    state = descent.init(problem, 0)
    for _ in range(2):
        state = descent.step(problem, state)
    (row,) = descent.measure(problem, state)
    assert abs(row["exact_cosine"]) == pytest.approx(1.0)
    matrix = torch.arange(6.0).reshape(2, 3)
    assert compare(2 * matrix, matrix) == pytest.approx({"cosine": 1.0, "norm_ratio": 2.0})


@pytest.mark.parametrize(
    ("bounds", "says"),
    [
        ({"lower": 1.0, "upper": 3.0}, "starts at α = 0, outside of lower=1.0 and upper=3.0"),
        ({"upper": -1.0}, "starts at α = 0, outside"),
        ({"lower": 3.0, "upper": -3.0}, "lower=3.0 is not below upper=-3.0"),
        ({"lower": torch.zeros(4)}, "is neither a number nor a tensor of the shape () of α"),
        ({"lower": None}, "lower=None is neither a number nor a tensor"),
        ({"alpha": ZERO / 0}, "starts at α = nan, outside"),
    ],
)
def test_box_that_does_not_hold_the_start_is_refused(bounds, says: str) -> None:
    refused(says, **bounds)


def test_box_of_every_bilevel_problem_and_loop_is_checked() -> None:
    outside = Quadratic(n=6, lower=1.0)
    for loop in (DESCENT, Search(Grid(), LBFGS(), 5, 1e-5)):
        with pytest.raises(UserError, match=r"Quadratic: it starts at α = \(0, 0, 0, 0, …\)"):
            loop.check(outside)
    DESCENT.check(Quadratic(lower=0.0))
    DESCENT.check(shrinking(alpha=ZEROS[:1], lower=-torch.ones(1), upper=1.0))


@pytest.mark.parametrize("pairs", ["kept", "", None, 1])
def test_autodiff_pairs_of_no_kind_are_refused(pairs) -> None:
    refused("take keep, drop, measure, or a function of α", pairs=pairs)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"inner": lambda alpha, theta, x: theta.sum()},
            "<lambda>(alpha, theta, x) is called as inner(alpha, theta): give it 2 parameters",
        ),
        ({"outer": lambda theta: theta.sum()}, "(theta) is called as outer(alpha, theta)"),
        ({"evaluate": lambda t: {}}, "(t) is called as evaluate(alpha, theta): give it 2"),
        ({"pairs": lambda: 1}, "<lambda>() is called as pairs(alpha): give it 1 parameter"),
        ({"inner": ZERO}, "inner is a Tensor: take a function inner(alpha, theta)"),
        ({"evaluate": {"loss": 1.0}}, "evaluate is a dict: take a function evaluate(alpha, theta)"),
    ],
)
def test_autodiff_functions_of_other_parameters_are_refused(options, says: str) -> None:
    with pytest.raises(UserError, match=re.escape(says)):
        shrinking(**options)


def test_autodiff_takes_functions_whose_parameters_fit_or_are_unknown() -> None:
    def rest(alpha, *others, scale=1.0):
        return inner_loss(alpha, *others)

    DESCENT.check(shrinking(rest, pairs=lambda alpha: alpha.exp() + ZEROS))
    DESCENT.check(AutodiffProblem(inner_loss, outer_loss, ZERO, ZERO, pairs=torch.exp))


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ([1.0], "evaluate returned a list: it returns a dict of numbers by column"),
        (None, "evaluate returned None"),
        ({"accuracy": "good"}, "accuracy is a str, where the trace takes a number"),
        ({"accuracy": ZERO}, "accuracy is a Tensor, where the trace takes a number; float(…)"),
        ({1: 1.0}, "a column is called 1: take a string"),
        ({"step": 1.0, "alpha": 2.0}, "alpha, step is a column of the loop itself"),
        ({"time": 1.0}, "time is a column of the loop itself"),
        ({"exact_cosine": 1.0}, "exact_cosine is a column of the loop itself"),
    ],
)
def test_autodiff_evaluate_that_gives_no_columns_is_refused(row, says: str) -> None:
    refused(says, evaluate=lambda alpha, theta: row)


def test_evaluate_of_every_bilevel_problem_is_checked() -> None:
    class Measured(Quadratic):
        columns = ("outer_loss", "norm")

    refused("returned the columns outer_loss, and its columns are outer_loss, norm", Measured())
    Measured.columns = "outer_loss"
    refused("its columns are outer_loss", Measured())


def test_evaluate_must_keep_its_columns() -> None:
    def evaluate(alpha, theta):
        return {"zero": 1.0} if alpha == 0 else {"other": 1.0}

    problem = shrinking(evaluate=evaluate)
    DESCENT.check(problem)
    state = DESCENT.init(problem, 0)
    for _ in range(2):
        state = DESCENT.step(problem, state)
    with pytest.raises(UserError, match="columns other, and its columns are zero: they must be"):
        DESCENT.measure(problem, state)


def test_numpy_numbers_are_numbers_of_a_trace() -> None:
    theta = ZEROS.numpy().astype("float32")
    DESCENT.check(shrinking(evaluate=lambda alpha, _: {"n": theta.argmax(), "max": theta.max()}))


@pytest.mark.parametrize(
    ("inner", "says"),
    [
        (lambda alpha, theta: theta.sum(), "the inner loss is linear in θ"),
        (lambda alpha, theta: alpha * theta.sum(), "the inner loss is linear in θ"),
        (outer_loss, "does not depend on α, so that θ* is the same at every α"),
        (lambda alpha, theta: theta.square().sum() + alpha.exp(), "does not depend on α"),
        (lambda alpha, theta: (alpha.detach() * theta**2).sum(), "does not depend on α"),
    ],
)
def test_autodiff_inner_loss_without_solution_that_moves_is_refused(inner, says: str) -> None:
    refused(says, inner=inner)


def test_autodiff_losses_in_the_wrong_order_are_told_of() -> None:
    refused(
        "takes the inner loss G first, and then the outer loss F",
        AutodiffProblem(outer_loss, inner_loss, ZERO, ZEROS),
    )


def test_autodiff_outer_loss_and_pairs_are_checked_before_a_run() -> None:
    refused("the outer loss must return one number", outer=lambda alpha, theta: theta)
    refused("the outer loss depends on neither α nor θ", outer=lambda alpha, theta: ZERO)
    refused("pairs(alpha) must have the shape of theta", pairs=lambda alpha: alpha)


@dataclass
class Thing:
    name: str = "a\nb"


@pytest.mark.parametrize(
    ("alpha", "says"),
    [
        (0.0, "alpha must be a floating-point tensor, or a dict of them, and is float 0.0; torch."),
        (torch.tensor(0), "is a tensor of torch.int64; torch.tensor(0.0, dtype=torch.float64)"),
        ({"a": ZERO, "b": 1}, "is a dict of a: a tensor of torch.float64, b: int 1"),
        ({}, "is an empty dict"),
        ([0.0] * 100, "is a list"),
        (Thing(), "is Thing Thing("),
    ],
)
def test_autodiff_start_that_is_no_tensor_is_told_what_it_is(alpha, says: str) -> None:
    refused(says, alpha=alpha)
