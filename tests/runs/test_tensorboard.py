"""Scalars for TensorBoard: what is in the trace, once for each step, whatever has happened."""

import importlib.util
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shine_exp.bilevel.loops.descent import Descent
from shine_exp.runs import tensorboard
from shine_exp.runs.tensorboard import EVENTS, TensorBoard

COMMAND = ("data=gaussian", "outer.n_steps=5")
TRACKED = (*COMMAND, "tracker=tensorboard")
IMPORTED = "import sys; from shine_exp.runs.command import main; main(); print(*sys.modules)"
NOT_INSTALLED = "tensorboard, an optional package, is not installed"


def points(folder: Path, column: str) -> list[tuple[int, float]]:
    """What TensorBoard would show of a column: step and value, in the order of the files."""
    loader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_file_loader", reason=NOT_INSTALLED
    )
    return [
        (event.step, value.simple_value)
        for path in sorted(folder.glob(EVENTS))
        for event in loader.LegacyEventFileLoader(str(path)).Load()
        for value in event.summary.value
        if value.tag == column
    ]


def same_as_trace(trace, folder: Path, column: str) -> None:
    rows = trace(folder)
    found = points(folder, column)
    assert [step for step, _ in found] == rows.step.astype(int).tolist()
    expected = rows[column].astype(float).tolist()  # event files have float32
    assert [value for _, value in found] == pytest.approx(expected, rel=1e-6)


def test_every_number_of_the_trace_is_there(shine_run, folders, trace) -> None:
    pytest.importorskip("tensorboard", reason=NOT_INSTALLED)
    assert shine_run(*TRACKED).code == 0
    (folder,) = folders()
    for column in ("outer_loss", "alpha", "products"):
        same_as_trace(trace, folder, column)


def test_resumed_run_appends_and_repeats_nothing(
    shine_run, folders, trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard", reason=NOT_INSTALLED)
    step = Descent.step

    def broken(self, problem, state):
        if state.step == 3:
            raise RuntimeError
        return step(self, problem, state)

    def signalled(self, problem, state):
        if state.step == 1:
            signal.raise_signal(signal.SIGTERM)
        return step(self, problem, state)

    monkeypatch.setattr(Descent, "step", signalled)
    assert shine_run(*TRACKED).code == 130
    (folder,) = folders()
    begun = (folder / "checkpoint.pt").read_bytes()
    monkeypatch.setattr(Descent, "step", broken)
    with pytest.raises(RuntimeError):
        shine_run(*TRACKED)
    monkeypatch.setattr(Descent, "step", step)
    assert [at for at, _ in points(folder, "alpha")] == [0, 1, 2, 3]
    # As after a kill: the checkpoint is older than what was written for TensorBoard.
    (folder / "checkpoint.pt").write_bytes(begun)
    assert shine_run(*TRACKED).code == 0
    same_as_trace(trace, folder, "outer_loss")


def test_tracker_of_a_later_start_has_the_steps_before_it(
    shine_run, folders, trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard", reason=NOT_INSTALLED)
    step = Descent.step

    def signalled(self, problem, state):
        if state.step == 2:
            signal.raise_signal(signal.SIGTERM)
        return step(self, problem, state)

    monkeypatch.setattr(Descent, "step", signalled)
    assert shine_run(*COMMAND).code == 130
    monkeypatch.setattr(Descent, "step", step)
    assert shine_run(*TRACKED).code == 0  # the same run, whoever looks at it
    (folder,) = folders()
    same_as_trace(trace, folder, "alpha")


def test_torn_event_file_is_continued(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason=NOT_INSTALLED)
    trace = b"step,time,alpha\n0,0.1,1.0\n1,0.2,2.0\n2,0.3,3.0\n"
    TensorBoard(flush_every=10).open(tmp_path, trace).close()
    (file,) = tmp_path.glob(EVENTS)
    file.write_bytes(file.read_bytes()[:-5])
    TensorBoard(flush_every=10).open(tmp_path, trace).close()
    assert {step for step, _ in points(tmp_path, "alpha")} == {0, 1, 2}
    assert len(points(tmp_path, "time")) == 3


def test_run_that_begins_anew_has_no_points_of_before(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason=NOT_INSTALLED)
    begin = TensorBoard(flush_every=10)
    begin.open(tmp_path, b"step,time,alpha\n0,0.1,7.0\n").close()
    log = begin.open(tmp_path, b"step,time,alpha\n")
    log.add([{"step": 0, "time": 0.1, "alpha": 1.0}])
    log.add([{"step": 1, "time": 0.2, "alpha": 2.0, "estimate": "shine"}] * 2)  # of a study
    log.close()
    assert points(tmp_path, "alpha") == [(0, 1.0)]


def test_where_it_is_not_installed_one_line_says_so(
    shine_run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    outcome = shine_run(*TRACKED)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == (
        "shine-run: tracker=tensorboard: the package tensorboard is not installed; "
        "pip install 'shine-exp[tensorboard]'\n"
    )
    assert not (tmp_path / "results").exists()


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason=NOT_INSTALLED)
def test_nothing_imports_it_unless_asked(tmp_path: Path) -> None:
    command = [sys.executable, "-c", IMPORTED, *COMMAND]
    ended = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    modules = ended.stdout.split("\n")[-2].split()
    assert "shine_exp.runs.session" in modules
    assert "tensorboard" not in modules
