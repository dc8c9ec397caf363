"""The hypergradient against the true one, in the trace."""

import pandas as pd
import pytest
import torch

from shine_exp.bilevel.descent import Descent
from shine_exp.bilevel.hypergradients.exact import true_hypergradient
from shine_exp.bilevel.hypergradients.implicit import Implicit
from shine_exp.bilevel.problems.linear_model import LinearModel
from shine_exp.bilevel.problems.logistic import LogisticRegression
from shine_exp.bilevel.problems.nonlinear_least_squares import NonlinearLeastSquares
from shine_exp.bilevel.schedule import Schedule
from shine_exp.data.sets.bundled import breast_cancer
from shine_exp.data.splits import split
from shine_exp.inverse.full import Full
from shine_exp.inverse.jacobian_free import JacobianFree
from shine_exp.solvers.lbfgs import LBFGS
from shine_exp.types import InverseMethod

TRUTH = ["true_cosine", "true_norm_ratio"]


def model(kind: type[LinearModel], groups: int) -> LinearModel:
    return kind(split(breast_cancer("standard", 1.0), 0), groups, "cpu")


@pytest.mark.parametrize("kind", [LogisticRegression, NonlinearLeastSquares])
@pytest.mark.parametrize("groups", [1, 4])
def test_the_truth_equals_finite_differences(kind: type[LinearModel], groups: int) -> None:
    problem, h = model(kind, groups), 1e-4
    alpha = torch.linspace(-1, 1, groups, dtype=torch.float64)
    start = torch.zeros(problem.n_features, dtype=torch.float64)

    def outer(alpha: torch.Tensor) -> float:
        return problem.outer(LBFGS(None)(problem.inner(alpha), start, 1e-10).z)[0]

    steps = h * torch.eye(groups, dtype=torch.float64)
    expected = torch.tensor(
        [(outer(alpha + e) - outer(alpha - e)) / (2 * h) for e in steps], dtype=torch.float64
    )
    torch.testing.assert_close(
        true_hypergradient(problem, alpha, start, 1.0), expected, rtol=1e-5, atol=1e-7
    )


def rows(inverse: InverseMethod, groups: int) -> pd.DataFrame:
    """The trace of a descent with a tightly solved inner problem, short of the optimum: there both
    gradients vanish.
    """
    problem = model(LogisticRegression, groups)
    descent = Descent(
        Implicit(LBFGS(), inverse), Schedule("exponential", 1e-10, 1.0), n_steps=4, compare=True
    )
    state = descent.begin(problem, 0)
    found = descent.measure(problem, state)
    for _ in range(descent.n_steps):
        state = descent.advance(problem, state)
        found += descent.measure(problem, state)
    return pd.DataFrame(found).set_index("step")[TRUTH]


@pytest.mark.parametrize("groups", [1, 4])
def test_the_full_method_has_the_true_hypergradient_and_jacobian_free_has_not(groups: int) -> None:
    full, jf = rows(Full(), groups), rows(JacobianFree(), groups)
    assert (
        full.loc[:1].isna().all(axis=None)
    )  # nothing is differentiated before the first inner solution
    assert (full.loc[2:] - 1).abs().max(axis=None) < 1e-5
    assert (jf.loc[2:, "true_norm_ratio"] - 1).abs().min() > 0.1


def test_nothing_else_in_the_trace_depends_on_it(shine_run, folders, trace) -> None:
    for compare in ("true", "false"):
        assert (
            shine_run("problem.groups=3", f"outer.compare={compare}", "outer.n_steps=8").code == 0
        )
    more, plain = sorted(
        (trace(folder).drop(columns="time") for folder in folders()), key=lambda t: -t.shape[1]
    )
    assert list(more.columns) == [*plain.columns, *TRUTH]
    pd.testing.assert_frame_equal(more[plain.columns], plain)
    assert (more.loc[2:, TRUTH] != "").all(axis=None)
    assert (more.loc[2:, "true_cosine"].astype(float).abs() <= 1 + 1e-9).all()
