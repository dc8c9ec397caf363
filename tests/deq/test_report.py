"""Residuals that are numbers wherever a solve ends: at z = 0, and for gradients of any size."""

import math

import pytest
import torch
from deq_cells import TanhCell, normal
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from shine_exp.deq import DEQ
from shine_exp.deq.report import adjoint_residual, relative_residual
from shine_exp.inverse.jacobian_free import JacobianFree
from shine_exp.solvers.broyden import Broyden


def test_forward_residual_is_relative_to_z_and_at_most_one() -> None:
    z = torch.tensor([[3.0, 4.0], [3.0, 4.0], [0.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    residual = torch.tensor([0.5, 50.0, 2.0, 0.0, math.inf])
    assert relative_residual(residual, z).tolist() == pytest.approx([0.1, 1.0, 1.0, 0.0, math.inf])


def test_forward_residual_is_finite_where_the_best_iterate_is_zero() -> None:
    class Jumps(nn.Module):
        """|z − f(z)| is least at 0."""

        def forward(self, z: Tensor) -> Tensor:
            return -9 * z + torch.where(z == 0, 0.1, 5.0)

    layer = DEQ(Jumps(), Broyden(1), JacobianFree(), tol=1e-5, warn=False)
    layer(torch.zeros(2, 4))
    assert layer.last.forward_residual.tolist() == [1.0, 1.0]
    assert layer.last.inner_residual.tolist() == pytest.approx([0.1, 0.1])


@given(exponent=st.integers(-37, 37))
def test_backward_residual_does_not_depend_on_the_size_of_the_gradient(exponent: int) -> None:
    r, product = normal(3, 8, seed=1).float(), normal(3, 8, seed=2).float()
    r, product, scale = r / r.abs().max(), product / product.abs().max() / 8, 10.0**exponent
    expected = product.norm(dim=-1) / r.norm(dim=-1)  # of u = r
    found = adjoint_residual(r * scale, product * scale, r * scale)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)


def test_backward_residual_of_a_zero_gradient_is_zero() -> None:
    zero = torch.zeros(2, 3)
    assert adjoint_residual(zero, zero, zero).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("scale", [1.0, 1e-24, 1e-30])
def test_the_report_of_tiny_cotangents(scale: float) -> None:
    layer = DEQ(TanhCell().float(), Broyden(50), JacobianFree())
    (layer(torch.zeros(3, 8), normal(3, 3, seed=7).float()) * scale).sum().backward()
    found = layer.last.backward_residual
    assert found.isfinite().all()
    assert 0.01 < float(found.min()) <= float(found.max()) < 1
