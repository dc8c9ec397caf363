"""What is paid before the clock starts: for every problem and solver, and without a trace of it."""

import pytest
import torch

from shine_exp.bilevel.problems.autodiff import AutodiffProblem
from shine_exp.runs.warm_up import warm_up
from shine_exp.solvers.lbfgs import LBFGS
from shine_exp.solvers.scipy import ScipyMinimizer


def small(dtype: torch.dtype, calls: list[str]) -> AutodiffProblem:
    def inner(alpha, theta):
        calls.append("inner")
        return (alpha.exp() * theta**4).sum() + ((theta - 1) ** 2).sum()

    def outer(alpha, theta):
        calls.append("outer")
        return ((theta - 2) ** 2).sum()

    return AutodiffProblem(inner, outer, torch.zeros(1, dtype=dtype), torch.ones(3, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("solver", [LBFGS(), LBFGS(opa=1), LBFGS(initial="identity")])
def test_warm_up_of_a_problem_from_two_functions(solver, dtype: torch.dtype) -> None:
    calls: list[str] = []
    warm_up(small(dtype, calls), solver, "cpu", differentiates=False)
    assert {"inner", "outer"} == set(calls)


@pytest.mark.parametrize("method", ["L-BFGS-B", "CG"])
def test_warm_up_with_scipy(method) -> None:
    warm_up(small(torch.float64, []), ScipyMinimizer(method), "cpu", differentiates=True)


def test_warm_up_of_a_network_knows_no_minimum() -> None:
    class Network:
        seeks = "root"

    warm_up(Network(), None, "cpu", differentiates=True)
