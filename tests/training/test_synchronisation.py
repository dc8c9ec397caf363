"""A whole training step waits for no device, in the sizes of the paper and by every method.

On PyTorch's "meta" device, which holds no numbers: whatever would read one, or copy from or to the
CPU, is found there as it would be on a GPU.
"""

import importlib
from collections.abc import Callable

import pytest
import torch
from hydra.utils import instantiate
from torch import Tensor, nn

from shine_exp.deq import DEQ
from shine_exp.deq.synchronisation import Synchronisations
from shine_exp.runs.composition import compose, hydra_for, separated
from shine_exp.solvers.looks import fixed_steps
from shine_exp.training.images.image_classification import Batch, ImageClassification
from shine_exp.training.images.mdeq import MDEQ
from shine_exp.training.step import TrainingStep, prepare

METHODS = ("shine", "jf", "full", "refine", "neumann", "fallback", "opa")
BATCH = 2


class Task(ImageClassification):
    """Its loss, and no data."""

    def __init__(self, disturb: Callable[[Tensor], object] = lambda loss: None) -> None:
        self.disturb = disturb

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        loss = super().loss(network, batch)
        self.disturb(loss)
        return loss


def waits(model: str, method: str, task: Task, device: str = "meta") -> list[str]:
    """What a step of few solver steps waits for."""
    overrides = [f"problem/model={model}", f"method={method}", "solver.max_steps=2"]
    if method == "full":
        overrides.append("method.max_steps=2")
    if method == "opa":
        overrides += ["solver=adjoint_broyden", "solver.opa=1"]
    with hydra_for() as hydra:
        config = separated(compose(hydra, ["problem=mdeq", *overrides])).config
    solver, inverse = instantiate(config.outer.solver), instantiate(config.outer.inverse)
    architecture = instantiate(config.problem.architecture)

    def layer(cell: nn.Module) -> DEQ:
        return DEQ(cell, solver, inverse, warn_unsolved=False)

    network = MDEQ(architecture, 3, 10, layer).on(device)
    optimizer = torch.optim.Adam(network.parameters())
    prepare(optimizer)
    masks = architecture.dropout_masks(BATCH, torch.Generator())
    batch = Batch(
        torch.zeros(BATCH, 3, 32, 32, device=device),
        torch.zeros(BATCH, dtype=torch.long, device=device),
        [mask.to(device) for mask in masks],
    )
    step = TrainingStep(network, network.equilibrium, optimizer, "float32")
    with fixed_steps(), Synchronisations(device) as found:
        step(task, batch)
    assert network.equilibrium.last.steps == 2
    return found.found


@pytest.fixture(autouse=True)
def adam_on_meta(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's list of devices for fused optimisers lacks the one without numbers."""
    adam = importlib.import_module("torch.optim.adam")
    monkeypatch.setattr(adam, "_device_dtype_check_for_fused", lambda p: None)


@pytest.mark.parametrize("method", METHODS)
def test_training_step_waits_for_no_device(method: str) -> None:
    assert waits("micro", method, Task()) == []


@pytest.mark.parametrize("model", ["tiny", "large"])
@pytest.mark.parametrize(
    "method", [pytest.param(method, marks=pytest.mark.slow) for method in METHODS]
)
def test_training_step_of_the_papers_models_waits_for_no_device(model: str, method: str) -> None:
    assert waits(model, method, Task()) == []


def test_training_step_on_a_cpu_reads_nothing_back() -> None:
    assert waits("micro", "shine", Task(), "cpu") == []


@pytest.mark.parametrize(
    ("disturb", "device", "what"),
    [
        (lambda loss: loss.item(), "cpu", "aten._local_scalar_dense is read back"),
        (lambda loss: loss.reshape(1)[loss.reshape(1) > 0], "cpu", "aten.index is read back"),
        (lambda loss: torch.as_tensor(0.1, device=loss.device), "cpu", "Python numbers is copied"),
        (lambda loss: torch.ones(3).to(loss.device), "meta", "a copy between cpu and meta"),
    ],
    ids=["item", "mask", "as_tensor", "to"],
)
def test_what_waits_in_a_training_step_is_found_with_its_place(disturb, device, what) -> None:
    (found,) = waits("micro", "jf", Task(disturb), device)
    assert what in found
    assert "test_synchronisation.py, line " in found
