"""What training says of solves that missed their tolerance: counts of samples, over the whole run."""

import signal
import warnings

import pytest
import torch
from small_training import small

from shine_exp.training.images.image_classification import ImageClassification
from shine_exp.training.train import Train

pytestmark = pytest.mark.usefixtures("without_onednn")
FULL = ("method=full", "problem.model.backward_steps=3")
IMAGES = 224  # in a batch


@pytest.fixture
def missed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """How many samples of each step missed the tolerance of the forward and of the backward solve."""
    counts = []

    def differentiate(self, problem, state, *rest, inner=Train._differentiate):
        entries = inner(self, problem, state, *rest)
        if "forward_residual" in entries:
            last = state.network.equilibrium.last
            backward = last.backward_converged
            counts.append(
                (int((~last.converged).sum()), 0 if backward is None else int((~backward).sum()))
            )
        return entries

    monkeypatch.setattr(Train, "_differentiate", differentiate)
    return counts


def test_counts_are_of_all_steps_so_far(shine_run, folders, trace, missed) -> None:
    shine_run(*small(*FULL, "problem.tol=0.2"))
    rows = trace(folders()[0])
    assert len(missed) == 7, "the first of eight steps was unrolled"
    assert 0 < sum(inner for inner, _ in missed) < 7 * IMAGES, (
        "some samples were to be solved, and some not"
    )
    for row, steps in zip(rows.itertuples(), (3, 7), strict=True):
        inner, backward = (sum(counts) for counts in zip(*missed[:steps], strict=True))
        assert (int(row.unsolved_inner), int(row.unsolved_backward)) == (inner, backward)
    assert float(rows.unsolved_backward.iloc[-1]) > 0


def test_a_loose_tolerance_leaves_nothing_unsolved(shine_run, folders, trace) -> None:
    shine_run(*small(*FULL, "problem.tol=10", "problem.adjoint_tol=10", "outer.epochs=1"))
    (row,) = trace(folders()[0]).to_dict("records")
    assert (row["unsolved_inner"], row["unsolved_backward"], row["test_unsolved"]) == (
        "0",
        "0",
        "0",
    )
    assert float(row["converged"]) == 1
    assert 0 < float(row["inner_residual"]) <= 10
    assert float(row["backward_residual"]) <= 10


def test_a_method_that_aims_at_no_tolerance_misses_none(shine_run, folders, trace) -> None:
    shine_run(*small("method=shine", "problem.tol=1e-7", "outer.epochs=1"))
    (row,) = trace(folders()[0]).to_dict("records")
    assert (row["unsolved_inner"], row["unsolved_backward"]) == (str(3 * IMAGES), "0")
    assert float(row["inner_residual"]) > 1e-7


def test_unrolled_training_solves_nothing(shine_run, folders, trace) -> None:
    shine_run(*small("method=unroll", "outer.epochs=1"))
    (row,) = trace(folders()[0]).to_dict("records")
    assert (row["unsolved_inner"], row["unsolved_backward"], row["test_unsolved"]) == ("0", "0", "")


def test_images_of_the_test_set_that_were_not_solved_are_counted(
    shine_run, folders, trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def evaluate(self, network, n_unrolled, inner=ImageClassification.evaluate):
        with torch.no_grad():
            network.eval()
            for pixels in self.images.test.pixels.split(128):
                network(self.images.normalise(pixels))
                seen.append(int((~network.equilibrium.last.converged).sum()))
        return inner(self, network, n_unrolled)

    monkeypatch.setattr(ImageClassification, "evaluate", evaluate)
    shine_run(*small("method=jf", "problem.tol=0.2", "outer.epochs=1"))
    (row,) = trace(folders()[0]).to_dict("records")
    assert int(row["test_unsolved"]) == sum(seen)
    assert 0 < sum(seen) < 899, "some images were to be solved, and some not"


def test_counts_go_on_where_an_interrupted_run_resumes(
    shine_run, folders, trace, missed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed(self, problem, state, *rest, inner=Train._differentiate):
        if state.step == 5:
            signal.raise_signal(signal.SIGINT)
        return inner(self, problem, state, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Train, "_differentiate", pressed)
        assert shine_run(*small(*FULL)).code == 130
    (folder,) = folders()
    saved = torch.load(folder / "checkpoint.pt", weights_only=True)["state"]
    inner, backward = (sum(counts) for counts in zip(*missed, strict=True))
    assert saved["unsolved"] == {"inner": inner, "backward": backward}
    shine_run(*small(*FULL))
    assert len(missed) == 7
    assert int(trace(folder).unsolved_inner.iloc[-1]) == sum(inner for inner, _ in missed)


def test_a_checkpoint_without_counts_is_refused(shine_run, folders) -> None:
    """What was missed before it is not known."""
    shine_run(*small(*FULL, "outer.epochs=1"))
    (folder,) = folders()
    path = folder / "checkpoint.pt"
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["state"]["unsolved"]
    torch.save(checkpoint, path)
    info = folder / "run.json"
    info.write_text(info.read_text().replace('"done"', '"interrupted"'))
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
