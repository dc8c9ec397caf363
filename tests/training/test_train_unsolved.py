"""What training says of solves that missed their tolerance: samples, over the whole run."""

import warnings

import pytest
import torch
from small_training import small

from shine_exp.training.step import TrainingStep
from shine_exp.training.train import Train

pytestmark = pytest.mark.usefixtures("without_onednn")
FULL = ("method=full", "method.max_steps=3")
IMAGES = 224  # in a batch


@pytest.fixture
def missed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """How many samples of each step missed their tolerance: (forward, backward)."""
    counts = []

    def step(self, task, batch, inner=TrainingStep.__call__):
        numbers = inner(self, task, batch)
        if (last := self.layer.last) is not None:
            backward = last.backward_converged
            counts.append(
                (int((~last.converged).sum()), 0 if backward is None else int((~backward).sum()))
            )
        return numbers

    monkeypatch.setattr(TrainingStep, "__call__", step)
    return counts


def test_unsolved_counts_are_of_all_steps_so_far(shine_run, folders, trace, missed) -> None:
    shine_run(*small(*FULL, "outer.tol=0.2"))
    rows = trace(folders()[0])
    assert len(missed) == 7, "the first of eight steps was unrolled"
    assert 0 < sum(inner for inner, _ in missed) < 7 * IMAGES, (
        "some samples were to be solved, and some not"
    )
    for row, steps in zip(rows.itertuples(), (3, 7), strict=True):
        inner, backward = (sum(counts) for counts in zip(*missed[:steps], strict=True))
        assert (int(row.unsolved_inner), int(row.unsolved_backward)) == (inner, backward)
    assert float(rows.unsolved_backward.iloc[-1]) > 0


def test_unsolved_counts_are_zero_with_a_loose_tolerance(shine_run, folders, trace) -> None:
    shine_run(*small(*FULL, "outer.tol=10", "outer.adjoint_tol=10", "outer.epochs=1"))
    (row,) = trace(folders()[0]).to_dict("records")
    assert (row["unsolved_inner"], row["unsolved_backward"], row["test_unsolved"]) == (
        "0",
        "0",
        "0",
    )
    assert float(row["converged"]) == 1
    assert 0 < float(row["inner_residual"]) <= 10
    assert float(row["backward_residual"]) <= 10


def test_unsolved_counts_of_a_method_that_aims_at_no_tolerance_are_zero(
    shine_run, folders, trace
) -> None:
    shine_run(*small("method=shine", "outer.tol=1e-7", "outer.epochs=1"))
    (row,) = trace(folders()[0]).to_dict("records")
    assert (row["unsolved_inner"], row["unsolved_backward"]) == (str(3 * IMAGES), "0")
    assert float(row["inner_residual"]) > 1e-7


def test_unsolved_counts_of_unrolled_training_are_zero(shine_run, folders, trace) -> None:
    shine_run(*small("method=unroll", "outer.epochs=1"))
    (row,) = trace(folders()[0]).to_dict("records")
    assert (row["unsolved_inner"], row["unsolved_backward"], row["test_unsolved"]) == ("0", "0", "")


def test_unsolved_images_of_the_test_set_are_counted(
    shine_run, folders, trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def evaluate(self, task, state, inner=Train._evaluate):
        with torch.no_grad():
            state.network.eval()
            for pixels in task.data.test.pixels.split(128):
                state.network(task.data.normalise(pixels))
                seen.append(int((~state.layer.last.converged).sum()))
        return inner(self, task, state)

    monkeypatch.setattr(Train, "_evaluate", evaluate)
    shine_run(*small("method=jf", "outer.tol=0.2", "outer.epochs=1"))
    (row,) = trace(folders()[0]).to_dict("records")
    assert int(row["test_unsolved"]) == sum(seen)
    assert 0 < sum(seen) < 899, "some images were to be solved, and some not"


def test_unsolved_counts_go_on_where_an_interrupted_run_resumes(
    interrupt, shine_run, folders, trace, missed
) -> None:
    assert interrupt(5, *small(*FULL)).code == 130
    (folder,) = folders()
    saved = torch.load(folder / "checkpoint.pt", weights_only=True)["state"]
    inner, backward = (sum(counts) for counts in zip(*missed, strict=True))
    assert saved["unsolved"] == {"inner": inner, "backward": backward}
    shine_run(*small(*FULL))
    assert len(missed) == 7
    assert int(trace(folder).unsolved_inner.iloc[-1]) == sum(inner for inner, _ in missed)


def test_checkpoint_without_unsolved_counts_is_refused(interrupt, shine_run, folders) -> None:
    """What was missed before it is not known."""
    interrupt(2, *small(*FULL, "outer.epochs=1"))
    (folder,) = folders()
    path = folder / "checkpoint.pt"
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["state"]["unsolved"]
    torch.save(checkpoint, path)
    outcome = shine_run(*small(*FULL, "outer.epochs=1"))
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert "not a checkpoint of this run" in outcome.err


def test_training_warns_of_nothing(shine_run) -> None:
    """The trace has the counts, and the end of the run its line."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        shine_run(*small(*FULL, "outer.epochs=1"))
    assert [str(w.message) for w in caught if issubclass(w.category, UserWarning)] == []
