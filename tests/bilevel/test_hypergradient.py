"""`hypergradient`: what it is called with is checked, and a failure is no solution."""

import math
import re

import pytest
import torch
from torch import Tensor

from shine_exp.bilevel.hypergradients import Implicit, Unrolled, hypergradient
from shine_exp.bilevel.problems.autodiff import AutodiffProblem
from shine_exp.errors import UnsupportedSolver, UserError
from shine_exp.inverse.conjugate_gradient import ConjugateGradient
from shine_exp.solvers.broyden import Broyden
from shine_exp.solvers.lbfgs import LBFGS
from shine_exp.solvers.scipy import ScipyMinimizer
from shine_exp.types import Status

ZERO = torch.zeros((), dtype=torch.float64)
ZEROS = torch.zeros(3, dtype=torch.float64)


def inner_loss(alpha: Tensor, theta: Tensor) -> Tensor:
    return 0.5 * (theta - 1).square().sum() + 0.5 * alpha.exp() * theta.square().sum()


def outer_loss(alpha: Tensor, theta: Tensor) -> Tensor:
    return (theta - 0.25).square().sum()


def shrinking(inner=inner_loss, outer=outer_loss) -> AutodiffProblem:
    return AutodiffProblem(inner, outer, ZERO, ZEROS)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"alpha": 0.5}, "alpha=0.5 is no tensor, and the problem starts at a tensor of shape ()"),
        ({"alpha": torch.zeros(1).double()}, "alpha is a tensor of shape (1,), torch.float64"),
        ({"alpha": torch.tensor(0.0)}, "alpha is a tensor of shape (), torch.float32"),
        ({"alpha": ZERO / 0}, "alpha has entries that are not finite numbers"),
        ({"theta": torch.zeros(4).double()}, "theta is a tensor of shape (4,)"),
        ({"theta": [0.0, 0.0, 0.0]}, "give one such, as by torch.tensor([0.0, …], dtype="),
        ({"tol": -1}, "tol=-1: take a number above 0"),
        ({"tol": math.nan}, "tol=nan: take a number above 0"),
        ({"tol": "small"}, "tol='small': take a number above 0"),
        ({"inverse": "cg"}, "inverse='cg': take an object such as Shine(), ConjugateGradient()"),
        ({"inverse": ConjugateGradient}, "inverse=the class ConjugateGradient: take an object"),
        ({"solver": "lbfgs"}, "solver='lbfgs': take an object such as LBFGS()"),
        ({"solver": LBFGS}, "solver=the class LBFGS: take an object"),
        ({"solver": Broyden()}, "Broyden finds a root, and the inner problem is a minimisation"),
    ],
)
def test_hypergradient_arguments_that_do_not_fit_are_refused(arguments, says: str) -> None:
    with pytest.raises(UserError, match=re.escape(says)) as caught:
        hypergradient(shrinking(), **arguments)
    assert "\n" not in str(caught.value)


def test_hypergradient_of_no_problem_is_refused() -> None:
    with pytest.raises(UserError, match=r"problem=the function inner_loss: take a shine_exp\."):
        hypergradient(inner_loss)
    with pytest.raises(UserError, match="problem=the class AutodiffProblem: take a shine_exp"):
        hypergradient(AutodiffProblem)
    with pytest.raises(UserError, match="the inner loss is linear in θ"):
        hypergradient(shrinking(lambda alpha, theta: theta.sum()))


def test_hypergradient_of_solver_without_estimate_says_which_to_take() -> None:
    with pytest.raises(UnsupportedSolver, match="take lbfgs, bfgs"):
        hypergradient(shrinking(), solver=ScipyMinimizer("CG"))


def test_hypergradient_takes_parameters_and_leaves_no_graph() -> None:
    alpha = torch.nn.Parameter(ZERO.clone())
    found, at = hypergradient(shrinking(), alpha, inverse=ConjugateGradient(), tol=1e-9)
    assert not any(t.requires_grad for t in (found.value, found.alpha, at.theta))
    # θ* = 1 / (1 + e^α) in each entry, so that h′ = 6 (θ* − 1/4) · (−e^α θ*²).
    assert float(found.value) == pytest.approx(6 * 0.25 * -0.25)


def test_hypergradient_that_is_not_finite_is_not_solved() -> None:
    problem = shrinking(outer=lambda alpha, theta: outer_loss(alpha, theta) * math.nan)
    found, at = hypergradient(problem)
    assert at.status is Status.CONVERGED
    assert found.value.isnan()
    assert not found.solved
    for method in (Implicit(ConjugateGradient()), Unrolled(3)):
        assert not method(problem, at, 1e-6).solved


@pytest.mark.parametrize("solver", [LBFGS(), ScipyMinimizer("L-BFGS-B")], ids=["ours", "scipy"])
def test_hypergradient_of_inner_loss_of_nan_tells_by_the_status(solver) -> None:
    """The gradient is finite: only the value says that there is nothing to be minimised."""
    problem = shrinking(lambda alpha, theta: inner_loss(alpha, theta) + math.nan)
    _, at = hypergradient(problem, solver=solver)
    assert at.status is Status.DIVERGED
