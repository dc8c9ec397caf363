"""The exact hypergradient against finite differences, and beside others in the trace."""

import pandas as pd
import pytest
import torch
from differences import finite_differences, solved

from shine_exp.bilevel.hypergradients.exact import exact_hypergradient
from shine_exp.bilevel.hypergradients.implicit import Implicit
from shine_exp.bilevel.loops.descent import Descent
from shine_exp.bilevel.loops.schedule import Schedule
from shine_exp.bilevel.problems.autodiff import AutodiffProblem
from shine_exp.bilevel.problems.linear.logistic import LogisticLoss
from shine_exp.bilevel.problems.linear.model import LinearModel, Loss
from shine_exp.bilevel.problems.linear.nonlinear_least_squares import SquaredSigmoidLoss
from shine_exp.data.sets.bundled import breast_cancer
from shine_exp.data.splits import split
from shine_exp.inverse.full import Full
from shine_exp.inverse.jacobian_free import JacobianFree
from shine_exp.solvers.lbfgs import LBFGS
from shine_exp.types import InverseMethod

COMPARED = ["exact_cosine", "exact_norm_ratio"]


def model(loss: Loss, groups: int) -> LinearModel:
    return LinearModel(loss, split(breast_cancer("standard", 1.0), 0), groups)


@pytest.mark.parametrize("loss", [LogisticLoss(), SquaredSigmoidLoss()])
@pytest.mark.parametrize("groups", [1, 4])
def test_exact_hypergradient_equals_finite_differences(loss: Loss, groups: int) -> None:
    problem = model(loss, groups)
    alpha = torch.linspace(-1, 1, groups, dtype=torch.float64)
    start = problem.inner(alpha)(torch.zeros(problem.n_features, dtype=torch.float64))
    expected = finite_differences(problem, solved(problem, alpha), 1e-4)
    exact = exact_hypergradient(problem, alpha, start, 1e-10)
    torch.testing.assert_close(exact.value, expected, rtol=1e-5, atol=1e-7)


def test_exact_hypergradient_is_nan_where_not_solved() -> None:
    """A quadratic with a singular Hessian has no u."""
    problem = AutodiffProblem(
        lambda alpha, theta: 0.5 * (theta[0] - alpha).square(),
        lambda alpha, theta: theta.sum(),
        torch.tensor(1.0, dtype=torch.float64),
        torch.zeros(2, dtype=torch.float64),
    )
    alpha, theta = problem.start()
    exact = exact_hypergradient(problem, alpha, problem.inner(alpha)(theta), 1e-10)
    assert not exact.solved
    assert exact.value.isnan()


def rows(inverse: InverseMethod, groups: int) -> pd.DataFrame:
    """The columns of `compare` in a descent with θ solved tightly.

    Four steps end short of the optimum, where both hypergradients would vanish.
    """
    problem = model(LogisticLoss(), groups)
    schedule = Schedule("exponential", 1e-10, 1.0)
    descent = Descent(LBFGS(), Implicit(inverse), schedule, n_steps=4, compare=True)
    state = descent.init(problem, 0)
    found = descent.measure(problem, state)
    for _ in range(descent.n_steps):
        state = descent.step(problem, state)
        found += descent.measure(problem, state)
    return pd.DataFrame(found).set_index("step")[COMPARED]


@pytest.mark.parametrize("groups", [1, 4])
def test_compared_hypergradient_of_full_is_exact_and_of_jacobian_free_not(groups: int) -> None:
    full, jf = rows(Full(), groups), rows(JacobianFree(), groups)
    # Nothing is differentiated before the first inner solution.
    assert full.loc[:1].isna().all(axis=None)
    assert (full.loc[2:] - 1).abs().max(axis=None) < 1e-5
    assert (jf.loc[2:, "exact_norm_ratio"] - 1).abs().min() > 0.1


def test_compare_changes_nothing_else_in_trace(shine_run, folders, trace) -> None:
    run = ("problem.groups=3", "outer.n_steps=8")
    for compare in ((), ("outer.compare=true", "outer.compare_every=3")):
        outcome = shine_run(*run, *compare)
        assert outcome.code == 0
    more, plain = sorted(
        (trace(folder).drop(columns="time") for folder in folders()), key=lambda t: -t.shape[1]
    )
    assert list(more.columns) == [*plain.columns, *COMPARED]
    pd.testing.assert_frame_equal(more[plain.columns], plain)
    compared = more.index % 3 == 0
    compared[0] = False  # no hypergradient led to the start
    assert (more.loc[~compared, COMPARED] == "").all(axis=None)
    assert (more.loc[compared, "exact_cosine"].astype(float).abs() <= 1 + 1e-9).all()
