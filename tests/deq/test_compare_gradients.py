"""`compare_gradients` on cells that are not ours, against dense algebra in float64."""

import pytest
import torch
from deq_cells import TanhCell, normal
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from shine_exp import compare_gradients
from shine_exp.deq import DEQ
from shine_exp.deq.compare_gradients import METHODS
from shine_exp.deq.gradient_comparison import GradientComparison, GradientQuality
from shine_exp.errors import UserError
from shine_exp.inverse.jacobian_free import JacobianFree
from shine_exp.inverse.shine import Shine
from shine_exp.solvers.adjoint_broyden import AdjointBroyden
from shine_exp.solvers.anderson import Anderson
from shine_exp.solvers.broyden import Broyden


class Convolutional(nn.Module):
    """f(z, x) = tanh(conv(z) + x) on images (batch, 2, 4, 4)."""

    shape = (2, 4, 4)

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1, dtype=torch.float64)
        nn.init.normal_(self.conv.weight, std=0.25)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(self.conv(z) + x)


class Attention(nn.Module):
    """f(z, x) = x + softmax(z W zᵀ) z V on five tokens of four numbers."""

    shape = (5, 4)

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(normal(4, 4, seed=1))
        self.v = nn.Parameter(0.6 * normal(4, 4, seed=2))

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return x + torch.softmax(z @ self.w @ z.mT, dim=-1) @ z @ self.v


class Linear(nn.Module):
    """f(z, x) = W z + x: an eigenvalue −1.3 of W, all others between −0.7 and 0.7."""

    shape = (12,)

    def __init__(self) -> None:
        super().__init__()
        basis, _ = torch.linalg.qr(normal(12, 12, seed=3))
        eigenvalues = torch.linspace(-0.7, 0.7, 12, dtype=torch.float64)
        eigenvalues[0] = -1.3
        self.w = nn.Parameter(basis * eigenvalues @ basis.T)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return z @ self.w.T + x


class Several(nn.Module):
    """f(z, x) = tanh(2 W z) + x / 10, W orthogonal: of several equilibria z0 chooses one."""

    shape = (4,)

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.linalg.qr(normal(4, 4, seed=5))[0])

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(2 * z @ self.w.T) + x / 10


CELLS = [Convolutional, Attention, Linear, Several]


def loss(z: Tensor) -> Tensor:
    flat = z.flatten(1)
    return (flat * torch.linspace(1, 2, flat.shape[1], dtype=flat.dtype) - flat**2).sum()


def compared(
    cell: nn.Module, solver=None, start: float = 0.0, **options
) -> tuple[GradientComparison, DEQ, list[Tensor]]:
    layer = DEQ(cell, solver or Broyden(100), JacobianFree(), tol=1e-12, adjoint_tol=1e-12)
    x = normal(4, *cell.shape, seed=9)
    inputs = [torch.full_like(x, start), x]
    return compare_gradients(layer, inputs, loss, **options), layer, inputs


@pytest.mark.parametrize("cell", CELLS)
def test_compared_gradients_are_those_of_dense_algebra(cell: type[nn.Module]) -> None:
    """u* from the Jacobian of each sample, and u from the same layer with the method."""
    comparison, layer, (z0, x) = compared(cell())
    assert (comparison.n_unsolved_forward, comparison.n_unsolved_backward) == (0, 0)
    z = layer(z0, x).detach()
    d = z[0].numel()
    jacobians = torch.stack(
        [
            torch.autograd.functional.jacobian(
                lambda v, i=i: layer.cell(v.view(1, *cell.shape), x[i : i + 1]).flatten(),
                z[i].flatten(),
            )
            for i in range(len(z))
        ]
    )
    leaf = z.clone().requires_grad_()
    (r,) = torch.autograd.grad(loss(leaf), leaf)
    r = r.flatten(1)
    truth = torch.linalg.solve(torch.eye(d, dtype=r.dtype) - jacobians.mT, r)
    powers = [r]
    for _ in range(5):
        powers.append(torch.einsum("bij,bi->bj", jacobians, powers[-1]))
    rows = {row.method: row for row in comparison.rows}
    for name, u in (("jf", r), ("neumann 5", sum(powers))):
        cosine = cosine_similarity(u, truth, dim=-1).quantile(0.5)
        error = ((u - truth).norm(dim=-1) / truth.norm(dim=-1)).quantile(0.5)
        assert rows[name].cosine == pytest.approx(float(cosine), abs=1e-9)
        assert rows[name].relative_error == pytest.approx(float(error), rel=1e-8)
    rho = torch.linalg.eigvals(jacobians).abs().amax(dim=-1).median()
    assert comparison.spectral_radius == pytest.approx(float(rho), rel=0.05)
    weights = list(layer.cell.parameters())
    exact = torch.autograd.grad(layer.cell(z, x).flatten(1), weights, truth)
    free = torch.autograd.grad(layer.cell(z, x).flatten(1), weights, r)
    flat = [torch.cat([part.flatten() for part in gradient]) for gradient in (free, exact)]
    cosine = cosine_similarity(*flat, dim=0)
    assert rows["jf"].parameter_cosine == pytest.approx(float(cosine), abs=1e-9)
    error = (flat[0] - flat[1]).norm() / flat[1].norm()
    assert rows["jf"].parameter_error == pytest.approx(float(error), rel=1e-8)
    print(comparison)
