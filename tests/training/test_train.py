"""Training of a network: the same numbers however often it is interrupted, and its trace."""

import math
import os
import statistics
from pathlib import Path

import pandas as pd
import pytest
import torch
from small_training import small

from shine_exp.training.step import TrainingStep
from shine_exp.training.train import MEANS, MEDIANS, TOTALS, Train

pytestmark = pytest.mark.usefixtures("without_onednn")
RANDOM = small("method=opa", "solver=adjoint_broyden", "solver.opa=2", "problem.augment=true")
CLOCKS = ["time", "forward_ms", "backward_ms"]


def same_numbers(a: pd.DataFrame, b: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(a.drop(columns=CLOCKS), b.drop(columns=CLOCKS))


def whole(folder: Path) -> Path:
    return Path("whole") / folder.relative_to(folder.parents[2])


def test_training_interrupted_in_an_epoch_resumes_to_the_same_numbers(
    interrupt, shine_run, folders, status, trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With augmentation, dropout and OPA: trace, weights and running statistics, bit for bit."""
    final = []

    def measure(self, task, state, inner=Train.measure):
        if state.step == 8:
            final.append(
                {name: tensor.clone() for name, tensor in state.network.state_dict().items()}
            )
        return inner(self, task, state)

    monkeypatch.setattr(Train, "measure", measure)
    for step, rows in ((0, 0), (5, 1)):  # in pre-training, and in the second epoch
        assert interrupt(step, *RANDOM).code == 130
        (folder,) = folders()
        assert (status(folder), len(trace(folder))) == ("interrupted", rows)
    assert "resumed after step 6" in shine_run(*RANDOM).out
    assert status(folder) == "done"
    shine_run(*RANDOM, "runtime.results=whole")
    assert trace(folder).step.tolist() == ["4", "8"]
    same_numbers(trace(folder), trace(whole(folder)))
    resumed, uninterrupted = final
    kept = torch.load(folder / "solution.pt", weights_only=True)["network"]
    for name, tensor in uninterrupted.items():
        assert torch.equal(resumed[name], tensor)
        assert torch.equal(kept[name], tensor), "the trained network stays"


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGTERM")
def test_training_is_interrupted_by_sigterm(
    terminated, shine_run, folders, status, trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", True)  # as in the other process
    command = small("method=shine", "problem.augment=true", "outer.epochs=6")
    outcome = terminated(*command, lines=2, seconds=120)
    assert outcome.code == 130
    assert outcome.err.count("\n") == 1
    (folder,) = folders()
    assert status(folder) == "interrupted"
    assert 1 <= len(trace(folder)) < 6
    shine_run(*command)
    shine_run(*command, "runtime.results=whole")
    assert len(trace(folder)) == 6
    same_numbers(trace(folder), trace(whole(folder)))


def test_training_moves_its_learning_rate_at_every_step(interrupt, folders) -> None:
    interrupt(2, *small("method=jf"))
    (folder,) = folders()
    saved = torch.load(folder / "checkpoint.pt", weights_only=True)["state"]
    rate = 1e-6 + (1e-3 - 1e-6) * (1 + math.cos(math.pi * 3 / 8)) / 2
    assert saved["optimizer"]["param_groups"][0]["lr"] == pytest.approx(rate, rel=1e-9)


def test_training_trace_has_a_row_per_epoch(shine_run, folders, trace) -> None:
    shine_run(
        *small(
            "method=fallback",
            "outer.optimiser.learning_rate=0.01",
            "outer.schedule.final_learning_rate=0.002",
        )
    )
    (folder,) = folders()
    rows = trace(folder).astype(float)
    assert list(rows.columns) == [
        *("step", "time", "epoch", "test_loss", "accuracy", "test_unsolved", "spectral_radius"),
        *("learning_rate", *MEANS, *TOTALS, *MEDIANS),
    ]
    assert (rows.step.tolist(), rows.epoch.tolist()) == ([4, 8], [1, 2])
    cosine = [0.002 + 0.008 * (1 + math.cos(math.pi * epoch / 2)) / 2 for epoch in (1, 2)]
    assert rows.learning_rate.tolist() == pytest.approx(cosine, rel=1e-9)
    assert rows.accuracy.between(0, 1).all()
    assert (rows.forward_steps == 5).all()
    assert (rows.evals == 6).all()
    assert (rows.products == 0).all()
    assert rows.converged.between(0, 1).all()
    assert rows.fell_back.between(0, 1).all()
    for name in (
        "spectral_radius",
        "forward_residual",
        "backward_residual",
        "gradient_norm",
        "forward_ms",
        "backward_ms",
    ):
        assert (rows[name] > 0).all()
    assert rows.time.is_monotonic_increasing


def test_training_trace_of_an_unrolled_epoch_has_no_residuals(shine_run, folders, trace) -> None:
    shine_run(*small("method=shine", "outer.epochs=2", "outer.pretrain_steps=4"))
    (folder,) = folders()
    rows = trace(folder)
    assert (rows.forward_residual.iloc[0], rows.products.iloc[0]) == ("", "")
    assert float(rows.forward_residual.iloc[1]) > 0


def test_training_trace_holds_means_and_medians_over_the_epoch(
    interrupt, shine_run, folders, trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the log that a checkpoint has after three of four steps, and the fourth."""
    command = small("method=jf", "outer.epochs=1")
    interrupt(2, *command)
    (folder,) = folders()
    log = torch.load(folder / "checkpoint.pt", weights_only=True)["state"]["log"]
    assert len(log["train_loss"]) == 3
    assert len(log["forward_residual"]) == 2, "the first step was unrolled"
    last = []

    def step(self, task, batch, inner=TrainingStep.__call__):
        numbers = inner(self, task, batch)
        last[:] = float(numbers.found["train_loss"]), numbers.times["forward_ms"]
        return numbers

    monkeypatch.setattr(TrainingStep, "__call__", step)
    shine_run(*command)
    (row,) = trace(folder)[["train_loss", "forward_ms"]].astype(float).to_dict("records")
    log["train_loss"].append(last[0])
    log["forward_ms"].append(last[1])
    assert row["train_loss"] == pytest.approx(statistics.fmean(log["train_loss"]), rel=1e-9)
    assert row["forward_ms"] == pytest.approx(statistics.median(log["forward_ms"]), rel=1e-9)


def test_training_in_bfloat16(shine_run, folders, status, trace) -> None:
    shine_run(*small("method=shine", "outer.precision=bfloat16", "outer.epochs=1"))
    (folder,) = folders()
    assert status(folder) == "done"
    assert trace(folder).train_loss.astype(float).map(math.isfinite).all()


def test_image_classification_refuses_other_data(shine_run, folders) -> None:
    outcome = shine_run("problem=mdeq", "data=breast_cancer")
    assert outcome.code == 2
    assert "digits_images" in outcome.err
    outcome = shine_run("problem=logreg", "data=digits_images")
    assert outcome.code == 2
    assert "breast_cancer" in outcome.err


def test_image_classification_refuses_sizes_that_do_not_fit(shine_run) -> None:
    outcome = shine_run(*small("problem.architecture.groups=3"))
    assert outcome.code == 2
    assert outcome.err.startswith("shine-run: problem.architecture: ")
    assert outcome.err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("method", ["shine", "jf", "full"])
def test_training_learns_digits_with_the_default_settings(
    shine_run, folders, status, trace, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", True)
    outcome = shine_run("problem=mdeq", f"method={method}")
    assert (outcome.code, outcome.err) == (0, "")
    (folder,) = folders()
    assert status(folder) == "done"
    assert float(trace(folder).accuracy.iloc[-1]) >= 0.90
