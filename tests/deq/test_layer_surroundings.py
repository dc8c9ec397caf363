"""The equilibrium layer under parametrisations, autocast and distributed training."""

import copy
from pathlib import Path

import pytest
import torch
from deq_cells import Spy, TanhCell, Watched, normal
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from shine_exp.deq import DEQ
from shine_exp.inverse.broyden import BroydenSteps
from shine_exp.inverse.full import Full
from shine_exp.inverse.refine import Refine
from shine_exp.inverse.shine import Shine
from shine_exp.solvers.adjoint_broyden import AdjointBroyden
from shine_exp.solvers.broyden import Broyden

pytestmark = pytest.mark.filterwarnings("ignore::shine_exp.deq.ConvergenceWarning")
FULL = Full(factor=1.0, max_steps=200)
SOLVERS = [Broyden(100), AdjointBroyden(100)]


class NormedCell(nn.Module):
    """tanh of two linear maps, the first with weight normalisation."""

    def __init__(self, d: int = 6) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.second = weight_norm(nn.Linear(d, d)), nn.Linear(d, d)
        self.double()
        with torch.no_grad():
            self.first.parametrizations.weight.original0.mul_(0.8)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(self.second(torch.tanh(self.first(z))) + x)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", ["original0", "original1"])
def test_layer_weight_normalisation_gets_the_gradient_of_finite_differences(
    name: str, solver
) -> None:
    """Although the solver computes the normalised weight once."""
    cell, x = NormedCell(), normal(2, 6, seed=1)
    layer = DEQ(cell, solver, FULL, tol=1e-13, adjoint_tol=1e-12)
    parameter = getattr(cell.first.parametrizations.weight, name)

    def loss() -> Tensor:
        return (layer(torch.zeros_like(x), x) ** 3).sum()

    loss().backward()
    direction, h = normal(*parameter.shape, seed=2), 1e-5
    ends = []
    for step in (h, -2 * h):
        with torch.no_grad():
            parameter += step * direction
            ends.append(float(loss()))
    found = float((parameter.grad * direction).sum())
    assert found == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-6)


def test_layer_normalised_weight_is_computed_once_for_all_steps_and_once_more_with_a_graph() -> (
    None
):
    cell, x = NormedCell(), normal(2, 6, seed=1)
    module = cell.first.parametrizations.weight[0]
    calls = []
    module.register_forward_pre_hook(lambda module, weights: calls.append(torch.is_grad_enabled()))
    DEQ(cell, Broyden(30), FULL)(torch.zeros_like(x), x)
    assert len(calls) == 2
    assert calls[-1], "the recorded evaluation has a weight of its own"


@pytest.mark.parametrize("solver", SOLVERS)
def test_layer_caller_s_own_cache_of_parametrisations_loses_no_gradient(solver) -> None:
    cell, x = NormedCell(), normal(2, 6, seed=1)
    layer = DEQ(cell, solver, FULL)
    with parametrize.cached():
        layer(torch.zeros_like(x), x).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in cell.parameters())


@pytest.mark.parametrize("method", [FULL, Shine(), Refine(Shine(), BroydenSteps(3))])
@pytest.mark.parametrize("solver", SOLVERS)
def test_layer_autocast_loses_no_gradient_and_keeps_the_solver_in_full_precision(
    method, solver
) -> None:
    cell, x = NormedCell().float(), normal(4, 6, seed=3).float()
    gradients = []
    cell.second.register_forward_hook(lambda module, arguments, output: inside.append(output.dtype))
    for enabled in (False, True):
        inside = []
        watched, spy = Watched(solver), Spy(method)
        layer = DEQ(cell, watched, spy, tol=1e-3, adjoint_tol=1e-3)
        cell.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            output = layer(torch.zeros_like(x), x)
            output.float().sum().backward()
        assert {
            t.dtype for t in (*watched.points, *watched.values, output, spy.system.r, spy.adjoint.u)
        } == {torch.float32}
        assert set(inside) == {torch.bfloat16 if enabled else torch.float32}
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in cell.parameters())
        gradients.append(torch.cat([p.grad.flatten() for p in cell.parameters()]))
    assert torch.cosine_similarity(*gradients, dim=0) > 0.95


@pytest.mark.parametrize("solver", SOLVERS)
def test_layer_start_in_short_floats_is_solved_in_float32(solver) -> None:
    """As features are under autocast."""
    cell, x = NormedCell().float(), normal(4, 6, seed=3).bfloat16()
    watched, spy = Watched(solver), Spy(FULL)
    layer = DEQ(cell, watched, spy, tol=1e-2, adjoint_tol=1e-3)
    with torch.autocast("cpu", torch.bfloat16):
        output = layer(torch.zeros_like(x), x)
        output.float().sum().backward()
    assert {t.dtype for t in (*watched.points, *watched.values, spy.system.r, spy.adjoint.u)} == {
        torch.float32
    }
    assert output.dtype is torch.bfloat16
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in cell.parameters())


def test_layer_backward_pass_outside_of_autocast_is_the_same() -> None:
    cell, x = NormedCell().float(), normal(4, 6, seed=3).float()
    layer, found = DEQ(cell, Broyden(20), FULL), []
    for inside in (True, False):
        cell.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = layer(torch.zeros_like(x), x).float().sum()
            if inside:
                loss.backward()
        if not inside:
            loss.backward()
        found.append([p.grad.clone() for p in cell.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.fixture
def gloo(tmp_path: Path):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
@pytest.mark.parametrize(("method", "opa"), [(FULL, None), (Refine(Shine(), BroydenSteps(3)), 2)])
def test_layer_distributed_training_gets_the_same_gradients(gloo, method, opa: int | None) -> None:
    cell, x = TanhCell(), normal(3, 3, seed=7)
    z0 = torch.zeros(3, 8, dtype=torch.float64)
    layer = DEQ(cell, AdjointBroyden(50, opa=opa), method)
    parallel = nn.parallel.DistributedDataParallel(copy.deepcopy(layer))

    def loss(z: Tensor) -> Tensor:
        return (z**2).sum()

    for _ in range(2):  # from the second pass on the reducer's buckets are rebuilt
        for module in (layer, parallel):
            module.zero_grad()
            loss(module(z0, x, loss=loss)).backward()
        for p, q in zip(layer.parameters(), parallel.parameters(), strict=True):
            assert p.grad.abs().sum() > 0
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-11, atol=1e-11)
