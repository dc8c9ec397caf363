import pytest
import torch

from shine_exp.errors import UnsupportedSystem
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


def test_first_order_refuses_outer_loss_without_alpha(shine_run, folders) -> None:
    outcome = shine_run("problem=logreg", "method=first_order")
    assert (outcome.code, outcome.err.count("\n"), folders()) == (2, 1, [])
    assert "the outer loss of LinearModel depends on α by θ* alone" in outcome.err
