"""Training that meets a number which is not finite: the run ends, and what was good is kept."""

import math
import signal

import pytest
import torch
from small_training import small

from shine_exp.training.images.image_classification import ImageClassification
from shine_exp.training.train import Train

pytestmark = pytest.mark.usefixtures("without_onednn")


@pytest.mark.parametrize("column", ["train_loss", "gradient_norm"])
def test_training_ends_where_loss_or_gradient_is_no_number(
    shine_run, folders, status, trace, monkeypatch: pytest.MonkeyPatch, column: str
) -> None:
    """In the middle of an epoch; the weights and the last good checkpoint stay as they were."""
    calls = []

    def loss(self, network, batch, inner=ImageClassification.loss) -> torch.Tensor:
        calls.append(1)
        value = inner(self, network, batch)
        if len(calls) == 6 and column == "gradient_norm":
            value.register_hook(lambda gradient: gradient * math.nan)
        return value * math.nan if len(calls) == 6 and column == "train_loss" else value

    weights = []

    def step(self, task, state, inner=Train.step):
        after = inner(self, task, state)
        weights.append({name: tensor.clone() for name, tensor in state.network.named_parameters()})
        return after

    monkeypatch.setattr(ImageClassification, "loss", loss)
    monkeypatch.setattr(Train, "step", step)
    outcome = shine_run(*small("method=jf", "runtime.checkpoint_every=0"))
    (folder,) = folders()
    assert (outcome.code, status(folder)) == (0, "diverged")
    assert "diverged" in outcome.out
    rows = trace(folder)
    assert rows.step.tolist() == ["4", "6"]
    assert rows[column].iloc[-1] == "nan"
    assert math.isfinite(float(rows.test_loss.iloc[-1]))
    assert len(calls) == 6
    kept = torch.load(folder / "checkpoint.pt", weights_only=True)["state"]
    assert kept["step"] == 5
    for name, tensor in weights[4].items():
        assert torch.equal(weights[5][name], tensor)
        assert torch.equal(kept["network"][name], tensor)


def test_training_interrupted_where_it_diverges_leaves_the_last_good_checkpoint(
    shine_run, folders, status, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loss(self, network, batch, inner=ImageClassification.loss) -> torch.Tensor:
        return inner(self, network, batch) * math.nan

    def pressed(self, seed: int, step: int, inner=ImageClassification.batch):
        if step == 5:
            signal.raise_signal(signal.SIGINT)
            monkeypatch.setattr(ImageClassification, "loss", loss)
        return inner(self, seed, step)

    with monkeypatch.context() as patch:
        patch.setattr(ImageClassification, "batch", pressed)
        assert shine_run(*small("method=jf", "runtime.checkpoint_every=0")).code == 130
    (folder,) = folders()
    assert status(folder) == "diverged", "the step was taken to its end"
    assert torch.load(folder / "checkpoint.pt", weights_only=True)["state"]["step"] == 5


def test_training_with_a_huge_learning_rate_diverges(shine_run, folders, status, trace) -> None:
    outcome = shine_run(*small("method=jf", "outer.optimiser.learning_rate=1e30"))
    (folder,) = folders()
    assert (outcome.code, outcome.err) == (0, "")
    assert status(folder) == "diverged"
    assert not math.isfinite(float(trace(folder).train_loss.iloc[-1]))
