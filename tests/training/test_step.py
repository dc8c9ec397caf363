"""A training in which each step is captured, and what is read from the device and when."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from shine_exp.acceleration import Choice, accelerated
from shine_exp.deq import Uncapturable
from shine_exp.inverse.shine import Shine
from shine_exp.solvers.broyden import Broyden
from shine_exp.training.optimisers import Adam
from shine_exp.training.schedules import Cosine
from shine_exp.training.state import TrainState
from shine_exp.training.step import CaptureWarning
from shine_exp.training.task import Task
from shine_exp.training.train import Train

TRAIN = Train(
    solver=Broyden(6),
    inverse=Shine(),
    tol=1e-2,
    adjoint_tol=1e-3,
    n_unrolled=None,
    epochs=2,
    pretrain_steps=2,
    n_pretrain_unrolled=3,
    optimiser=Adam(0.01, 0.9, 0.999),
    schedule=Cosine(0.001),
    jacobian_weight=0.0,
    precision="float32",
    n_power_steps=0,
)


class Cell(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(0.5 * self.linear(z) + x)


class Regression(Task):
    """‖z* − y‖² of a cell of four; the loss is NaN at the step `broken`."""

    steps_per_epoch = 8
    columns = ("norm",)
    broken = math.inf

    def network(self, layer) -> torch.nn.Module:
        return torch.nn.ModuleList([layer(Cell())])

    def batch(self, seed: int, step: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(1000 * seed + step)
        x, y = torch.randn(2, 5, 4, generator=generator)
        return {"x": x, "y": y, "scale": torch.tensor(math.nan if step == self.broken else 1.0)}

    def loss(self, network, batch) -> Tensor:
        z = network[0](torch.zeros_like(batch["x"]), batch["x"])
        return batch["scale"] * (z - batch["y"]).square().mean()

    def evaluate(self, network) -> dict[str, float]:
        return {"norm": float(network[0].cell.linear.weight.norm())}


class Broken(Regression):
    broken = 5


def trained(
    task: Task, n_steps: int, graph: Choice = "off", train: Train[Any] = TRAIN
) -> TrainState:
    with accelerated(graph=graph):
        state = train.init(task, 0)
    for _ in range(n_steps):
        train.step(task, state)
    return state


@pytest.fixture
def read_seldom(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on a GPU, where the log stays on the device for some steps."""
    monkeypatch.setattr("shine_exp.training.train.reads_at_once", lambda device: False)
    return


def test_captured_training_gives_the_rows_of_the_ordinary_one() -> None:
    states = [trained(Regression(), 16, graph) for graph in ("off", "on")]
    (expected,), (found,) = (TRAIN.measure(Regression(), state) for state in states)
    counts = ("forward_steps", "evals")
    assert found["forward_steps"] == 6
    assert expected["forward_steps"] < 6, "some solves were to stop early"
    assert set(expected) - set(found) == {"forward_ms", "backward_ms"}
    for name in set(found) - set(counts):
        assert found[name] == pytest.approx(expected[name], rel=1e-4), name


def test_captured_training_with_a_jacobian_penalty_gives_the_ordinary_weights() -> None:
    """Whose random directions are drawn anew for every replay, and where it reads them."""
    penalised = replace(TRAIN, jacobian_weight=3.0)
    networks = [
        trained(Regression(), 16, graph, train).network.state_dict()
        for graph, train in (("off", penalised), ("on", penalised), ("off", TRAIN))
    ]
    for name, weights in networks[0].items():
        torch.testing.assert_close(networks[1][name], weights, rtol=1e-4, atol=1e-6)
        assert not torch.allclose(networks[2][name], weights, rtol=1e-2, atol=1e-3)


def test_log_is_the_same_whenever_it_is_read(read_seldom) -> None:
    state = trained(Regression(), 12)
    assert len(state.unread) == 4, "of the epoch that has not ended"
    assert len(state.log.get("train_loss", [])) == 0
    assert state.unsolved["inner"] <= state.solves["inner"] == 5 * 10
    assert len(state.log["train_loss"]) == 4
    assert state.unread == []


@pytest.mark.parametrize("graph", ["off", "on"])
def test_diverged_training_that_is_read_late_goes_back_to_that_step(graph, read_seldom) -> None:
    before = trained(Broken(), 5, graph).network.state_dict()
    state = trained(Broken(), 7, graph)
    assert TRAIN.diverged(state) is None
    TRAIN.step(Broken(), state)
    assert TRAIN.diverged(state) == "the loss of the batch is nan at step 6"
    assert state.step == 6
    assert len(state.log["train_loss"]) == 6
    for name, weights in state.network.state_dict().items():
        assert torch.equal(weights, before[name]), "what is not finite changes no weight"
    (row,) = TRAIN.measure(Broken(), state)
    assert row["learning_rate"] == state.log["rate"][-1]


def test_diverged_training_that_was_saved_unread_is_found_again(read_seldom) -> None:
    saved = trained(Broken(), 7).state_dict()
    state = TRAIN.load_state_dict(Broken(), saved)
    TRAIN.step(Broken(), state)
    assert TRAIN.diverged(state) == "the loss of the batch is nan at step 6"


class Waiting(Regression):
    def loss(self, network, batch) -> Tensor:
        loss = super().loss(network, batch)
        return loss if loss > 0 else -loss


def test_step_that_waits_is_refused_where_a_graph_is_asked_for() -> None:
    with pytest.raises(Uncapturable, match=r"read back \(.*test_step.py, line \d+\)"):
        trained(Waiting(), 1, "on")


def test_step_that_waits_goes_on_without_a_graph_where_none_is_asked_for() -> None:
    state = TRAIN.init(Waiting(), 0)
    state.training_step.graph = True  # as "auto" has it on a GPU
    with pytest.warns(CaptureWarning, match="read back.*goes on without one"):
        TRAIN.step(Waiting(), state)
    TRAIN.step(Waiting(), state)
    assert len(state.log["forward_ms"]) == 1
    expected = trained(Waiting(), 2)
    assert state.log["train_loss"] == pytest.approx(expected.log["train_loss"], rel=1e-5)


def test_only_cells_of_long_runs_on_a_gpu_are_compiled_unasked() -> None:
    state = TRAIN.init(Regression(), 0)
    assert state.layer.cell._compiled_call_impl is None
    assert not TRAIN._compiles("auto", Regression(), state.network)
    assert TRAIN._compiles("on", Regression(), state.network)


@pytest.mark.slow
def test_compiled_cell_gives_the_gradient_of_the_cell() -> None:
    gradients = []
    for choice in ("off", "on"):
        with accelerated(compile=choice):
            state = TRAIN.init(Regression(), 0)
        for _ in range(4):
            TRAIN.step(Regression(), state)
        gradients.append(torch.cat([p.grad.flatten() for p in state.network.parameters()]))
    assert (gradients[1] - gradients[0]).norm() < 1e-5 * gradients[0].norm()
