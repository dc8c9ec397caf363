"""What a layer warns of: once per layer and process, at its caller's line, and with nothing read
back before.
"""

import copy
import pickle
import warnings
from dataclasses import dataclass, replace

import pytest
import torch
from deq_cells import TanhCell, Watched, normal
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from shine_exp.deq import DEQ, CellWarning, ConvergenceWarning
from shine_exp.inverse.full import Full
from shine_exp.inverse.jacobian_free import JacobianFree
from shine_exp.inverse.neumann import Neumann
from shine_exp.inverse.shine import Shine
from shine_exp.solvers.adjoint_broyden import AdjointBroyden
from shine_exp.solvers.broyden import Broyden
from shine_exp.solvers.fixed_point import FixedPoint
from shine_exp.types import Adjoint, AdjointSystem, Solution, Status

Z0 = torch.zeros(3, 8, dtype=torch.float64)
X = normal(3, 3, seed=7)
EXACT = Full(factor=1.0, max_steps=200)


@pytest.fixture
def warned():
    """Every warning so far of one of the layer's categories."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield lambda category=Warning: [
            str(w.message) for w in caught if issubclass(w.category, category)
        ]


def test_layer_that_solves_warns_of_nothing(warned) -> None:
    for inverse in (EXACT, Shine(), JacobianFree(), Neumann(3)):
        DEQ(TanhCell(), Broyden(50), inverse)(Z0, X).sum().backward()
    assert warned() == []


@pytest.mark.parametrize("training", [True, False])
def test_layer_missed_forward_tolerance_is_warned_of_once(warned, training: bool) -> None:
    layer = DEQ(TanhCell(), Broyden(3), JacobianFree())
    with torch.set_grad_enabled(training):
        for _ in range(3):
            layer(Z0, X)
    (message,) = warned(ConvergenceWarning)
    worst = float(layer.last.inner_residual.max())
    assert message.startswith(
        f"DEQ(TanhCell): 3 of 3 samples missed tol=1e-05: residual {worst:.2g} "
    )
    assert "after 3 steps of Broyden" in message
    assert "Take more steps (max_steps), or a looser tol" in message


def test_layer_missed_backward_tolerance_is_warned_of_once(warned) -> None:
    layer = DEQ(TanhCell(), Broyden(50), Full(max_steps=2), adjoint_tol=1e-4)
    for _ in range(3):
        layer(Z0, X).sum().backward()
    (message,) = warned(ConvergenceWarning)
    worst = float(layer.last.backward_residual.max())
    assert "3 of 3 samples missed the tolerance of the backward solve" in message
    assert f"residual {worst:.2g} " in message
    assert "adjoint_tol=0.0001) after 2 products of Full(" in message


def test_layer_samples_that_no_step_improved_are_named(warned) -> None:
    layer = DEQ(TanhCell(gain=6.0, d=8), FixedPoint(1), Full(max_steps=1), tol=0.0)
    layer(Z0, X).sum().backward()
    stuck = int(layer.last.fell_back.sum())
    assert stuck > 0
    assert f", and {stuck} fell back to u = r. " in warned(ConvergenceWarning)[0]


def test_layer_gradient_that_is_not_accumulated_warns_too(warned) -> None:
    layer = DEQ(TanhCell(), Broyden(50), Full(max_steps=2))
    torch.autograd.grad(layer(Z0, X).sum(), layer.cell.weight)
    assert "backward solve" in warned(ConvergenceWarning)[0]


def test_every_layer_warns_for_itself(warned) -> None:
    layer = DEQ(TanhCell(), Broyden(3), JacobianFree())
    layer(Z0, X)
    for other in (layer, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        other(Z0, X)
    assert len(warned(ConvergenceWarning)) == 3


def test_warning_is_of_the_line_that_calls_the_layer() -> None:
    with pytest.warns(ConvergenceWarning) as caught:
        nn.Sequential(_On(DEQ(TanhCell(), Broyden(3), JacobianFree())))(Z0)
    assert caught[0].filename == __file__


class _On(nn.Module):
    def __init__(self, layer: DEQ) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, z0: Tensor) -> Tensor:
        return self.layer(z0, X)


def test_layer_that_is_not_to_warn_does_not(warned) -> None:
    cell = nn.Sequential(nn.Linear(8, 8).double(), nn.Dropout(0.1))
    DEQ(cell, Broyden(3), Full(max_steps=2), warn=False)(Z0).sum().backward()
    assert warned() == []


def test_layer_that_is_not_to_warn_of_unsolved_samples_still_warns_of_its_cell(warned) -> None:
    cell = nn.Sequential(nn.Linear(8, 8).double(), nn.Dropout(0.1))
    layer = DEQ(cell, Broyden(3), Full(max_steps=2), warn_unsolved=False)
    layer(Z0).sum().backward()
    (message,) = warned()
    assert "the cell's Dropout (1) draws anew" in message


def test_layer_tolerance_of_zero_asks_for_all_steps_and_is_not_missed(warned) -> None:
    DEQ(TanhCell(), Broyden(3), Full(max_steps=2), tol=0.0, adjoint_tol=0.0)(Z0, X).sum().backward()
    assert warned() == []


def test_layer_methods_that_aim_at_no_tolerance_are_not_said_to_miss_it(warned) -> None:
    for inverse in (Shine(), JacobianFree(), Neumann(1)):
        layer = DEQ(TanhCell(), Broyden(50), inverse)
        layer(Z0, X).sum().backward()
        assert layer.last.backward_converged is None
        assert layer.last.backward_residual.max() > layer.adjoint_tol
    assert warned() == []


class Expanding(nn.Module):
    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return 3 * z + x


def test_expanding_cell_is_named(warned) -> None:
    layer = DEQ(Expanding(), FixedPoint(20), JacobianFree())
    layer(Z0, Z0 + 1)
    (message,) = warned(ConvergenceWarning)
    assert "the cell may expand (spectral radius of ∂f/∂z above 1)" in message


def test_layer_numbers_that_are_not_finite_are_warned_of(warned) -> None:
    layer = DEQ(Expanding(), FixedPoint(20), JacobianFree())
    layer(Z0, torch.where(Z0 == 0, torch.nan, 0.0))
    assert layer.last.status is Status.DIVERGED
    assert layer.last.forward_residual.isinf().all()
    assert "residual inf" in warned(ConvergenceWarning)[0]


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = TanhCell()

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return nn.functional.dropout(self.inner(z, x), 0.1)


class Stateful(nn.Module):
    """A power iteration that goes on with every evaluation, as spectral normalisation has one."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.n = TanhCell(), 0

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        self.n += 1
        return self.inner(z, x) * (1 + 0.1 * (-1) ** self.n)


@pytest.mark.parametrize("cell", [Noisy(), Stateful()], ids=lambda cell: type(cell).__name__)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("solver", [Broyden(20), FixedPoint(21), AdjointBroyden(20)])
def test_cell_that_is_no_function_is_named(warned, cell, training: bool, solver) -> None:
    with torch.set_grad_enabled(training):
        DEQ(cell, solver, JacobianFree())(Z0, X)
    (message,) = warned(ConvergenceWarning)
    assert "at the same z: it must be a function of z and its inputs" in message


CELLS = {
    "Dropout": nn.Dropout(0.1),
    "AlphaDropout": nn.AlphaDropout(0.1),
    "RReLU": nn.RReLU(),
    "BatchNorm1d": nn.BatchNorm1d(8),
}


@pytest.mark.parametrize("name", CELLS)
def test_layer_dropout_and_batch_statistics_are_warned_of_where_they_are_active(
    warned, name: str
) -> None:
    cell = nn.Sequential(nn.Linear(8, 8), copy.deepcopy(CELLS[name]), nn.Tanh()).double()
    with torch.no_grad():
        cell[0].weight *= 0.3
    layer = DEQ(cell, Broyden(50), JacobianFree())
    layer.eval()
    layer(Z0)
    assert warned(CellWarning) == []
    layer.train()
    layer(Z0)
    layer(Z0)
    (message,) = warned(CellWarning)
    assert message.startswith(f"DEQ(Sequential): the cell's {name} (1) ")


def test_layer_dropout_that_draws_nothing_is_not_warned_of(warned) -> None:
    cell = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.0), nn.Tanh()).double()
    with torch.no_grad():
        cell[0].weight *= 0.3
    DEQ(cell, Broyden(50), JacobianFree())(Z0)
    assert warned(CellWarning) == []


def test_layer_batch_statistics_in_evaluation_are_warned_of_where_there_are_no_others(
    warned,
) -> None:
    cell = nn.Sequential(
        nn.Linear(8, 8), nn.BatchNorm1d(8, track_running_stats=False), nn.Tanh()
    ).double()
    DEQ(cell.eval(), Broyden(50), JacobianFree())(Z0)
    assert "BatchNorm1d (1) uses statistics of the batch" in warned(CellWarning)[0]


class _Syncs(TorchDispatchMode):
    """Counts what waits for a device: the value of a tensor, as a number of Python."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        self.n += function is torch.ops.aten._local_scalar_dense.default
        return function(*arguments, **(named or {}))


@dataclass(frozen=True)
class Given:
    """A solver and an inverse method that answer without looking, CONVERGED or not."""

    status: Status
    finds = "root"
    leaves_estimate = False

    def __call__(self, g, z0: Tensor, tol: float, *, outer=None, estimate=None) -> Solution:
        residual = g(z0).norm(dim=-1)
        converged = torch.full_like(residual, self.status is Status.CONVERGED, dtype=torch.bool)
        return Solution(z0, None, residual, 1, 1, self.status, converged, ~converged)

    def invert(self, system: AdjointSystem) -> Adjoint:
        converged = torch.full_like(
            system.r[:, 0], self.status is Status.CONVERGED, dtype=torch.bool
        )
        return replace(JacobianFree()(system), status=self.status, converged=converged)


@pytest.mark.parametrize("status", [Status.CONVERGED, Status.MAX_STEPS])
def test_layer_reads_nothing_back_where_all_is_well_or_has_been_said(
    warned, status: Status
) -> None:
    given, syncs = Given(status), []
    layer = DEQ(TanhCell(), given, given.invert)
    for _ in range(2):
        with _Syncs() as counted:
            layer(Z0, X).sum().backward()
        syncs.append(counted.n)
    assert (syncs[0] > 0) == (status is Status.MAX_STEPS)
    assert syncs[1] == 0
    assert len(warned(ConvergenceWarning)) == (0 if status is Status.CONVERGED else 2)


def test_report_says_how_the_backward_solve_ended() -> None:
    layer = DEQ(TanhCell(), Broyden(50), EXACT)
    output = layer(Z0, X)
    assert (layer.last.backward_status, layer.last.backward_converged) == (None, None)
    (output * torch.tensor([1.0, 0.0, 1.0])[:, None]).sum().backward()
    assert layer.last.backward_status is Status.CONVERGED
    assert layer.last.backward_converged.tolist() == [True] * 3
    layer = DEQ(TanhCell(), Watched(Broyden(50)), Full(max_steps=3))
    with pytest.warns(
        ConvergenceWarning, match="2 of 3 samples missed the tolerance of the backward solve"
    ):
        (layer(Z0, X) * torch.tensor([1.0, 0.0, 1.0])[:, None]).sum().backward()
    assert layer.last.backward_status is Status.MAX_STEPS
    assert layer.last.backward_converged.tolist() == [False, True, False]
