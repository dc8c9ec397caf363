"""How much a checkpoint of a network holds: a machine that is lent for minutes sends it back."""

import pytest
import torch
from hydra.utils import instantiate

from shine_exp.data.images import Images, LabelledImages
from shine_exp.runs.checkpoint import Checkpoint, save
from shine_exp.runs.composition import compose, hydra_for, separated
from shine_exp.training.images.image_classification import ImageClassification
from shine_exp.training.step import Numbers

MIB = 1 << 20


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_checkpoint_of_tiny_has_less_than_8_mib(optimiser: str, tmp_path) -> None:
    """After an epoch of CIFAR-10, with the moments of every weight and a full log."""
    with hydra_for() as hydra:
        overrides = ("experiment=tiny_short", "method=shine", f"outer/optimiser={optimiser}")
        config = separated(compose(hydra, overrides)).config
    noise = LabelledImages(torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.tensor([0, 1]))
    architecture = instantiate(config.problem.architecture)
    task = ImageClassification(Images(noise, noise, 10, "noise"), "cpu", architecture, 128, False)
    train = instantiate(config.outer)
    state = train.init(task, 0)
    for parameter in state.network.parameters():
        parameter.grad = torch.ones_like(parameter)
    state.optimizer.step()
    columns = train.columns(task)
    found = {name: torch.tensor(0.123456789, dtype=torch.float64) for name in columns}
    state.unread = [Numbers(found, {}, None) for _ in range(390)]
    save(tmp_path, Checkpoint({}, state.state_dict(), "", 0.0))
    assert (tmp_path / "checkpoint.pt").stat().st_size < 8 * MIB
