"""A task from outside of the package, and one with a fault: what training makes of them."""

import math
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from shine_exp.deq import DEQ, CellWarning
from shine_exp.errors import UserError
from shine_exp.inverse.full import Full
from shine_exp.inverse.jacobian_free import JacobianFree
from shine_exp.inverse.shine import Shine
from shine_exp.solvers.adjoint_broyden import AdjointBroyden
from shine_exp.solvers.broyden import Broyden
from shine_exp.training.layer_calls import calls_of
from shine_exp.training.optimisers import Adam
from shine_exp.training.schedules import Cosine
from shine_exp.training.task import LayerFactory, Task
from shine_exp.training.train import Train
from shine_exp.types import Adjoint, AdjointSystem

TRAIN = Train(
    solver=Broyden(50),
    inverse=JacobianFree(),
    tol=1e-4,
    adjoint_tol=1e-3,
    n_unrolled=None,
    epochs=4,
    pretrain_steps=0,
    n_pretrain_unrolled=3,
    optimiser=Adam(1e-2, 0.9, 0.999),
    schedule=Cosine(1e-3),
    jacobian_weight=0.0,
    precision="float32",
    n_power_steps=20,
)


def trained(train: Train, task: Task, seed: int = 0) -> tuple[Any, list[dict[str, Any]]]:
    """The state at the end of a training, and the rows of its trace."""
    state, rows = train.init(task, seed), []
    for _ in range(train.length(task)):
        state = train.step(task, state)
        rows += train.measure(task, state)
    return state, rows


@pytest.fixture
def adding(monkeypatch: pytest.MonkeyPatch) -> Task:
    """The task of the user's folder, imported as its user does."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "outside_task"))
    from toy import Adding

    return Adding(length=6, width=16)


@pytest.mark.parametrize(
    "inverse",
    [Shine(), JacobianFree(), Full(factor=1.0, max_steps=50)],
    ids=["shine", "jf", "full"],
)
def test_task_from_outside_is_learnt(adding: Task, inverse) -> None:
    """To a tenth of what the mean as an answer gives, with every equilibrium solved."""
    _, rows = trained(replace(TRAIN, inverse=inverse), adding)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    _, sums = adding.batch(0, 10**6)
    assert rows[-1]["test_loss"] < 0.1 * float(sums.var())
    assert rows[-1]["converged"] == 1
    assert rows[-1]["test_unsolved"] == 0
    assert 0 < rows[-1]["spectral_radius"] < 1
    names = set(TRAIN.columns(adding)) | {"step"}
    assert {name for row in rows for name in row} <= names


def test_task_from_outside_goes_on_from_a_state_dict(adding: Task) -> None:
    train = replace(TRAIN, epochs=2, pretrain_steps=10, inverse=Shine())
    whole, rows = trained(train, adding, seed=3)
    state = train.init(adding, 3)
    for _ in range(60):
        state = train.step(adding, state)
    resumed = train.load_state_dict(adding, state.state_dict())
    torch.manual_seed(99)  # which nothing may depend on
    for _ in range(40):
        resumed = train.step(adding, resumed)
    solution, other = (train.solution(adding, s)["network"] for s in (whole, resumed))
    assert all(torch.equal(solution[name], other[name]) for name in solution)
    (row,) = train.measure(adding, resumed)
    same = set(row) - {"forward_ms", "backward_ms"}
    assert {name: row[name] for name in same} == {name: rows[-1][name] for name in same}


def test_initial_weights_of_a_task_follow_from_the_seed_alone(adding: Task) -> None:
    weights = []
    for seed, before in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(before)
        state = torch.get_rng_state()
        weights.append(TRAIN.init(adding, seed).network.embed.weight)
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


class Linear(nn.Module):
    """f(z, x) = 0.5 W z + x with W a rotation: ρ(∂f/∂z) = 0.5."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(0.5 * torch.tensor([[0.6, -0.8], [0.8, 0.6]]))

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return z @ self.w.T + x


class Small(Task):
    """The mean of z*² of a linear cell; a test may replace each part."""

    columns: tuple[str, ...] = ("test_loss",)
    steps_per_epoch = 2

    def __init__(self, n_layers: int = 1) -> None:
        self.n_layers, self.modes = n_layers, []

    def network(self, layer: LayerFactory) -> nn.Module:
        return nn.ModuleList(layer(Linear()) for _ in range(self.n_layers))

    def batch(self, seed: int, step: int) -> Tensor:
        return torch.ones(3, 2)

    def loss(self, network: nn.Module, batch: Tensor) -> Tensor:
        return network[0](torch.zeros_like(batch), batch).square().mean()

    def evaluate(self, network: nn.Module) -> dict[str, float]:
        self.modes.append((network.training, torch.is_grad_enabled(), network[0].n_unrolled))
        return {"test_loss": float(self.loss(network, self.batch(0, 0)))}


def test_evaluation_of_a_task_is_in_evaluation_mode_and_without_graph() -> None:
    task = Small()
    trained(replace(TRAIN, epochs=1, pretrain_steps=2), task)
    assert task.modes == [(False, False, None)]


def test_training_trace_has_the_spectral_radius_of_the_evaluated_cell() -> None:
    """Whatever the network passes its layer, by position or by name, with or without a loss."""

    class Named(Small):
        def loss(self, network: nn.Module, batch: Tensor) -> Tensor:
            z = network[0](z0=torch.zeros_like(batch), x=batch, loss=torch.sum)
            return z.square().mean()

    frozen = replace(TRAIN, epochs=1, optimiser=Adam(1e-9, 0.9, 0.999), schedule=Cosine(0.0))
    for task in (Small(), Named()):
        _, (row,) = trained(frozen, task)
        assert row["spectral_radius"] == pytest.approx(0.5, rel=1e-5)
    _, (row,) = trained(replace(frozen, n_power_steps=0), Small())
    assert "spectral_radius" not in row
    _, (row,) = trained(replace(frozen, n_unrolled=2, inverse=None), Small())
    assert not {"spectral_radius", "test_unsolved", "products"} & set(row)


def test_calls_of_a_layer_count_its_unsolved_samples_within_the_block() -> None:
    layer = DEQ(Linear(), Broyden(1), None, tol=1e-6, warn=False)
    z0, x = torch.zeros(3, 2), torch.ones(3, 2)
    with torch.no_grad():
        layer(z0, x)
        with calls_of(layer) as calls:
            layer(z0, x)
            layer(z0, 0 * x)  # solved by its start
            layer(z0[:1], x[:1])
        layer(z0, x)
    assert (calls.n_solves, calls.n_unsolved) == (3, 4)
    assert torch.equal(calls.first[0][1], x)


def test_solver_with_opa_is_told_the_loss_of_a_task() -> None:
    """Which passes it on to its layer."""

    class Aware(Small):
        def loss(self, network: nn.Module, batch: Tensor) -> Tensor:
            def criterion(z: Tensor) -> Tensor:
                return z.square().mean()

            return criterion(network[0](torch.zeros_like(batch), batch, loss=criterion))

    train = replace(TRAIN, solver=AdjointBroyden(10, opa=1), inverse=Shine(), epochs=1)
    state, _ = trained(train, Aware())
    assert state.unsolved == {"inner": 0, "backward": 0}
    with pytest.raises(UserError, match="call the layer with loss="):
        trained(train, Small())


@pytest.mark.parametrize(
    ("n_layers", "found"), [(0, "no equilibrium layer,"), (2, "2 equilibrium")]
)
def test_network_without_exactly_one_layer_is_refused(n_layers: int, found: str) -> None:
    with pytest.raises(UserError, match=f"the network ModuleList has {found}.*exactly one"):
        TRAIN.init(Small(n_layers), 0)


def _changed(**parts: Any) -> Callable[[], Task]:
    return type("Faulty", (Small,), parts)


@pytest.mark.parametrize(
    ("task", "says"),
    [
        (
            _changed(evaluate=lambda self, network: {"test_los": 0.0}),
            "Faulty.evaluate gives test_los, and its columns are test_loss",
        ),
        (_changed(evaluate=lambda self, network: {}), "Faulty.evaluate gives nothing"),
        (
            _changed(loss=lambda self, network, batch: torch.zeros(())),
            "Faulty.loss returns float32 .. without a graph: it must return one number that "
            "depends on the network's parameters",
        ),
        (
            _changed(loss=lambda self, network, batch: 0.5),
            r"Faulty.loss returns 0.5: it must return one number",
        ),
        (
            _changed(loss=lambda self, network, batch: torch.ones((), requires_grad=True)),
            "Faulty.loss does not call the network's equilibrium layer",
        ),
        (
            _changed(
                loss=lambda self, network, batch: sum(
                    network[0](batch, batch).mean() for _ in range(2)
                )
            ),
            "Faulty.loss calls the network's equilibrium layer 2 times",
        ),
        (
            _changed(
                loss=lambda self, network, batch: (
                    network[0](batch, batch).detach().mean() + torch.ones((), requires_grad=True)
                )
            ),
            "Faulty.loss does not depend on the network's parameters",
        ),
        (
            _changed(network=lambda self, layer: None),
            "Faulty.network returns None: it must return the network",
        ),
        (
            _changed(network=lambda self, layer: nn.ModuleList),
            "Faulty.network returns the class ModuleList: it must return the network",
        ),
        (
            _changed(network=lambda self, layer: nn.Sequential(layer(nn.Tanh()))),
            "Faulty.network returns a network without parameters",
        ),
        (
            _changed(evaluate=lambda self, network: None),
            'Faulty.evaluate returns None: it must return a dict, {"test_loss": …}',
        ),
        (
            _changed(evaluate=lambda self, network: torch.zeros(())),
            "Faulty.evaluate returns float32 ..: it must return a dict",
        ),
        (
            _changed(evaluate=lambda self, network: {"test_loss": torch.zeros(())}),
            "Faulty.evaluate gives test_loss=float32 ..: take a number",
        ),
        (
            _changed(loss=lambda self, network, batch: network[0](batch, batch)),
            "Faulty.loss returns float32 .3, 2.: it must return one number",
        ),
    ],
)
def test_task_with_a_fault_is_refused(task: Callable[[], Task], says: str) -> None:
    with pytest.raises(UserError, match=says):
        trained(replace(TRAIN, epochs=1), task())


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"columns": ("train_loss", "a")}, "train_loss is a column of the training loop itself"),
        ({"columns": "test_loss"}, 'take a tuple of names, ("test_loss",)'),
        ({"columns": 1}, "Faulty.columns=1: take a tuple of names"),
        ({"steps_per_epoch": 0}, "Faulty.steps_per_epoch=0: must be 1 or more"),
        ({"steps_per_epoch": 2.5}, "Faulty.steps_per_epoch=2.5: must be 1 or more"),
        ({"batch": lambda self, seed: None}, "Faulty.batch takes (seed) beside self"),
        ({"batch": lambda self, seed: None}, "it is called with (seed, step)"),
        ({"loss": lambda self, network: None}, "it is called with (network, batch)"),
        ({"evaluate": lambda self, network, data: {}}, "Faulty.evaluate takes (network, data)"),
        ({"network": lambda self: None}, "it is called with (layer)"),
        ({"evaluate": 3}, "Faulty.evaluate=3: it must be a method, (network)"),
    ],
)
def test_task_that_the_loop_cannot_train_is_refused(parts: dict[str, Any], says: str) -> None:
    """Before anything of it is called."""
    task = _changed(**parts)()
    with pytest.raises(UserError, match=re.escape(says)):
        TRAIN.check(task)


def test_task_methods_may_take_more_than_the_loop_gives() -> None:
    TRAIN.check(_changed(batch=lambda self, *where, n=3: None, evaluate=lambda self, *_: {})())


def test_wrong_evaluation_is_found_before_the_first_step() -> None:
    task = _changed(evaluate=lambda self, network: {"test_los": 0.0})()
    state = TRAIN.init(task, 0)
    with pytest.raises(UserError, match="gives test_los, and its columns are test_loss"):
        TRAIN.measure(task, state)
    good = Small()
    assert TRAIN.measure(good, TRAIN.init(good, 0)) == []


def test_training_that_would_never_use_its_method_is_refused() -> None:
    train = replace(TRAIN, pretrain_steps=8)
    with pytest.raises(UserError, match=r"all 8 steps .*and the method, JacobianFree, never used"):
        train.check(Small())
    replace(train, pretrain_steps=7).check(Small())
    replace(train, inverse=None, n_unrolled=3).check(Small())


@pytest.mark.parametrize("pretrain_steps", [0, 1], ids=["solved", "unrolled"])
def test_cell_that_is_called_with_other_inputs_is_refused(pretrain_steps: int) -> None:
    class TwoInputs(Small):
        def loss(self, network: nn.Module, batch: Tensor) -> Tensor:
            return network[0](torch.zeros_like(batch), batch, batch).mean()

    says = "the cell Linear is called with (z, float32 (3, 2), float32 (3, 2)), and its forward"
    with pytest.raises(UserError, match=re.escape(says)):
        trained(replace(TRAIN, pretrain_steps=pretrain_steps), TwoInputs())


def test_cell_with_active_dropout_is_warned_of_once_in_training() -> None:
    """And nothing is said of the solves that it makes miss their tolerance."""

    class Dropped(Small):
        def network(self, layer: LayerFactory) -> nn.Module:
            cell = Linear()
            cell.drop = nn.Dropout(0.5)
            cell.register_forward_hook(lambda cell, _, z: cell.drop(z))
            return nn.ModuleList([layer(cell)])

    with pytest.warns(CellWarning, match=r"the cell's Dropout \(drop\) draws anew") as caught:
        state, _ = trained(TRAIN, Dropped())
    assert len(caught) == 1
    assert state.unsolved["inner"] > 0


def test_loss_that_is_no_tensor_is_refused_without_a_warning_of_pytorch() -> None:
    def loss(self, network: nn.Module, batch: Tensor) -> float:
        return float(network[0](batch, batch).mean())

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(UserError, match=r"Faulty\.loss returns [0-9.]+: it must return one"):
            trained(TRAIN, _changed(loss=loss)())
    assert [str(w.message) for w in caught] == []


def test_diverged_training_names_the_number_the_step_and_the_method() -> None:
    def loss(self, network: nn.Module, batch: Tensor) -> Tensor:
        return Small.loss(self, network, batch) * math.nan

    state = TRAIN.init(Small(), 0)
    assert TRAIN.diverged(state) is None
    TRAIN.step(Small(), state)
    assert TRAIN.diverged(state) is None
    TRAIN.step(_changed(loss=loss)(), state)
    assert TRAIN.diverged(state) == "the loss of the batch is nan at step 2"

    class Broken(JacobianFree):
        def __call__(self, system: AdjointSystem) -> Adjoint:
            return Adjoint.unchecked(system.r * math.nan)

    for pretrain_steps, reason in (
        (0, "the norm of the gradient, by the method Broken, is nan at step 1"),
        (1, None),
    ):
        train = replace(TRAIN, inverse=Broken(), pretrain_steps=pretrain_steps)
        state = train.step(Small(), train.init(Small(), 0))
        assert train.diverged(state) == reason


def test_training_needs_an_inverse_method_or_unrolled_steps_and_not_both() -> None:
    with pytest.raises(UserError, match=r"outer\.inverse=null: the gradient .* needs an inverse"):
        replace(TRAIN, inverse=None)
    with pytest.raises(UserError, match=r"outer\.n_unrolled=5: no equilibrium would be solved"):
        replace(TRAIN, n_unrolled=5)


def test_task_that_lacks_a_part_cannot_be_made() -> None:
    class Lacking(Task):
        columns = ()

    with pytest.raises(TypeError, match="steps_per_epoch"):
        Lacking()
