import pytest
import torch
from torch import Tensor

from shine_exp.bilevel.hypergradients import hypergradient
from shine_exp.bilevel.problems.autodiff import AutodiffProblem
from shine_exp.errors import UnsupportedSystem, UserError
from shine_exp.inverse.first_order import FirstOrder
from shine_exp.types import AdjointSystem, LinearOperator


def test_first_order_is_zero_without_a_product() -> None:
    r = torch.ones(2, 3, dtype=torch.float64)
    adjoint = FirstOrder()(AdjointSystem(LinearOperator(lambda v: v, symmetric=True), r, 1e-3))
    assert torch.equal(adjoint.u, torch.zeros_like(r))
    assert (adjoint.n_products, adjoint.converged) == (0, None)


def test_first_order_refuses_a_network() -> None:
    with pytest.raises(UnsupportedSystem, match="in a network all that comes before"):
        FirstOrder().check_system(symmetric=False)
    FirstOrder().check_system(symmetric=True)


def test_hypergradient_refuses_first_order_where_it_would_be_zero() -> None:
    zero = torch.zeros(2, dtype=torch.float64)

    def inner(alpha: Tensor, theta: Tensor) -> Tensor:
        return 0.5 * (theta - alpha).square().sum()

    direct = AutodiffProblem(inner, lambda alpha, theta: (alpha * theta).sum(), zero + 1, zero)
    found, _ = hypergradient(direct, inverse=FirstOrder())
    torch.testing.assert_close(found.value, zero + 1)
    by_theta = AutodiffProblem(inner, lambda alpha, theta: theta.sum(), zero, zero)
    with pytest.raises(UserError, match=r"depends on α by θ. alone: take another method"):
        hypergradient(by_theta, inverse=FirstOrder())


def test_first_order_refuses_outer_loss_without_alpha(shine_run, folders) -> None:
    outcome = shine_run("problem=logreg", "method=first_order")
    assert (outcome.code, outcome.err.count("\n"), folders()) == (2, 1, [])
    assert "the outer loss of LinearModel depends on α by θ* alone" in outcome.err
