"""Runs on disk: skipped, interrupted, resumed, left alone."""

import json
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from filelock import FileLock

from shine_exp.bilevel.loops.adam import Adam
from shine_exp.bilevel.loops.descent import Descent
from shine_exp.bilevel.loops.search import Search
from shine_exp.bilevel.loops.state import State
from shine_exp.bilevel.studies.inversion_quality import InversionQuality

METHODS = ("shine", "opa", "refine", "cg", "lbfgs", "neumann", "random", "bayes", "unroll")
N_STEPS = 6


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.iterdir()
        if path.suffix
    }


def same_numbers(a: pd.DataFrame, b: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(a.drop(columns="time"), b.drop(columns="time"))


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch, shine_run):
    """Run the command with Ctrl-C pressed where a loop's `function` is called with a state of this
    step.
    """

    def run(function: str, step: int, *arguments: str):
        with monkeypatch.context() as patch:
            for loop in (Adam, Descent, Search, InversionQuality):
                original = getattr(loop, function)

                def pressed(self, problem, state, inner=original):
                    result = inner(self, problem, state)
                    if state.step == step:
                        raise KeyboardInterrupt
                    return result

                patch.setattr(loop, function, pressed)
            return shine_run(*arguments)

    return run


def test_a_run_that_is_done_is_skipped_and_said_so(shine_run, folders, status) -> None:
    first = shine_run("outer.n_steps=2")
    (folder,) = folders()
    assert (first.code, status(folder)) == (0, "done")
    assert "done after" in first.out
    assert not (folder / "checkpoint.pt").exists()
    before = contents(folder)
    again = shine_run("outer.n_steps=2")
    assert (again.code, again.err) == (0, "")
    assert "done already" in again.out
    assert contents(folder) == before
    assert {"trace.csv", "run.json", "config.yaml"} <= set(before)


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> list[State]:
    """The last state of every run of N_STEPS."""
    found: list[State] = []
    for loop in (Adam, Descent, Search):

        def measure(self, problem, state, inner=loop.measure):
            if state.step == N_STEPS:
                found.append(state)
            return inner(self, problem, state)

        monkeypatch.setattr(loop, "measure", measure)
    return found


@pytest.mark.parametrize(
    "command",
    [
        *((f"method={name}",) for name in METHODS),
        ("solver=scipy",),
        ("problem=softmax", "problem.train=0.1"),
        ("problem=cleaning", "problem.n_train=100", "method=opa"),
        ("problem=cleaning", "problem.n_train=100", "method=nystrom"),
    ],
    ids=" ".join,
)
def test_an_interrupted_run_resumes_to_the_same_numbers(
    interrupt, shine_run, folders, status, trace, ends: list[State], command: tuple[str, ...]
) -> None:
    """Bit for bit."""
    command = (*command, f"outer.n_steps={N_STEPS}")
    outcome = interrupt("step", 4, *command)
    assert outcome.code == 130
    assert outcome.err.count("\n") == 1
    (folder,) = folders()
    assert status(folder) == "interrupted"
    assert trace(folder).step.tolist() == ["0", "1", "2", "3", "4"]
    assert "resumed after step 4" in shine_run(*command).out
    assert status(folder) == "done"
    assert not (folder / "checkpoint.pt").exists()
    shine_run(*command, "runtime.results=whole")
    whole = trace(Path("whole") / folder.relative_to(folder.parents[2]))
    assert len(whole) == N_STEPS + 1
    same_numbers(trace(folder), whole)
    resumed, uninterrupted = ends
    assert torch.equal(resumed.theta, uninterrupted.theta)
    assert torch.equal(resumed.alpha, uninterrupted.alpha)


@pytest.mark.parametrize("step", [0, 1, 3])
@pytest.mark.parametrize(
    "command", [("method=cg",), ("experiment=fig2_right",)], ids=["cg", "study"]
)
def test_an_interrupted_evaluation_loses_no_row(
    interrupt, shine_run, folders, trace, command: tuple[str, ...], step: int
) -> None:
    command = (*command, "outer.n_steps=4")
    assert interrupt("measure", step, *command).code == 130
    (folder,) = folders()
    assert shine_run(*command).code == 0
    shine_run(*command, "runtime.results=whole")
    same_numbers(trace(folder), trace(Path("whole") / folder.relative_to(folder.parents[2])))


def test_the_time_of_a_repeated_step_counts_once(
    interrupt, shine_run, folders, trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter(range(1000))
    monkeypatch.setattr("shine_exp.runs.trace.time.perf_counter", lambda: next(ticks))
    interrupt("step", 2, "outer.n_steps=4")
    shine_run("outer.n_steps=4")
    (folder,) = folders()
    assert [float(value) for value in trace(folder).time] == [0, 1, 2, 3, 4]


def test_a_run_that_ends_by_an_error_says_so_and_can_go_on(
    shine_run, folders, status, trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stepping(self, problem, state, inner=Descent.step):
        if state.step == 3:
            raise ZeroDivisionError("by nothing")
        return inner(self, problem, state)

    with monkeypatch.context() as patch:
        patch.setattr(Descent, "step", stepping)
        with pytest.raises(ZeroDivisionError):
            shine_run("outer.n_steps=5")
    (folder,) = folders()
    assert status(folder) == "failed"
    assert (
        json.loads((folder / "run.json").read_text())["reason"] == "ZeroDivisionError: by nothing"
    )
    shine_run("outer.n_steps=5")
    assert status(folder) == "done"
    assert trace(folder).step.tolist() == [str(step) for step in range(6)]


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (
            torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 2 GiB.\nSee documentation."
            ),
            "out of memory",
        ),
    ],
)
def test_a_machine_that_runs_out_is_told_of_in_one_line(
    shine_run, folders, status, monkeypatch: pytest.MonkeyPatch, error: Exception, says: str
) -> None:
    def stepping(self, problem, state, inner=Descent.step):
        if state.step == 2:
            raise error
        return inner(self, problem, state)

    with monkeypatch.context() as patch:
        patch.setattr(Descent, "step", stepping)
        outcome = shine_run("outer.n_steps=4")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert says in outcome.err
    (folder,) = folders()
    assert status(folder) == "failed"
    shine_run("outer.n_steps=4")
    assert status(folder) == "done"


def test_interrupted_twice(interrupt, shine_run, folders, trace) -> None:
    command = ("method=shine", "outer.n_steps=5")
    interrupt("step", 1, *command)
    interrupt("step", 3, *command)
    shine_run(*command)
    (folder,) = folders()
    shine_run(*command, "runtime.results=whole")
    same_numbers(trace(folder), trace(Path("whole") / folder.relative_to(folder.parents[2])))


def test_a_killed_run_goes_on_from_its_checkpoint(
    shine_run, folders, status, trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at step 5 with a checkpoint at step 3: rows 4 and 5 are written once."""
    command = ("outer.n_steps=6", "runtime.checkpoint_every=0")

    def stepping(self, problem, state, inner=Descent.step):
        (folder,) = folders()
        if state.step == 3:
            shutil.copy(folder / "checkpoint.pt", tmp_path)
        if state.step == 5:
            shutil.copytree(folder, tmp_path / "killed")
        return inner(self, problem, state)

    with monkeypatch.context() as patch:
        patch.setattr(Descent, "step", stepping)
        assert shine_run(*command).code == 0
    (folder,) = folders()
    shutil.rmtree(folder)
    shutil.move(tmp_path / "killed", folder)
    shutil.move(tmp_path / "checkpoint.pt", folder / "checkpoint.pt")
    assert status(folder) == "running"
    assert len(trace(folder)) == 6
    assert "resumed after step 3" in shine_run(*command).out
    starts = json.loads((folder / "run.json").read_text())["starts"]
    assert [(start["status"], start["after_step"]) for start in starts] == [
        ("killed", 0),
        ("done", 3),
    ]
    shine_run(*command, "runtime.results=whole")
    same_numbers(trace(folder), trace(Path("whole") / folder.relative_to(folder.parents[2])))


@pytest.mark.skipif(os.name != "posix", reason="SIGTERM")
def test_sigterm_interrupts(terminated, shine_run, folders, status, trace) -> None:
    command = ("method=random", "outer.n_steps=40")
    outcome = terminated(*command, lines=3, seconds=60)
    assert outcome.code == 130
    assert outcome.err.count("\n") == 1
    (folder,) = folders()
    assert status(folder) == "interrupted"
    rows = trace(folder)
    assert 2 <= len(rows) <= 40
    assert (rows.accuracy != "").all()
    shine_run(*command)
    shine_run(*command, "runtime.results=whole")
    assert len(trace(folder)) == 41
    same_numbers(trace(folder), trace(Path("whole") / folder.relative_to(folder.parents[2])))


def test_a_run_at_work_elsewhere_is_left_alone(shine_run, interrupt, folders) -> None:
    interrupt("step", 1, "outer.n_steps=2")
    (folder,) = folders()
    before = contents(folder)
    with FileLock(folder / ".lock"):
        outcome = shine_run("outer.n_steps=2")
        assert contents(folder) == before
    assert outcome.code == 0
    assert "another process" in outcome.out
    assert "resumed" in shine_run("outer.n_steps=2").out


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_run_whose_loss_is_no_number_is_diverged(
    shine_run, folders, status, trace, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    def stepping(self, problem, state, inner=Descent.step):
        state = inner(self, problem, state)
        return replace(state, outer_value=value) if state.step == 2 else state

    monkeypatch.setattr(Descent, "step", stepping)
    outcome = shine_run("outer.n_steps=4", "runtime.checkpoint_every=0")
    (folder,) = folders()
    assert (outcome.code, status(folder)) == (0, "diverged")
    assert "diverged" in outcome.out
    assert trace(folder).step.tolist() == ["0", "1", "2"]
    assert torch.load(folder / "checkpoint.pt", weights_only=True)["state"]["step"] == 1, (
        "the last good one is kept"
    )
    assert "diverged already" in shine_run("outer.n_steps=4").out


def test_run_json(shine_run, folders) -> None:
    shine_run("solver=bfgs", "outer.n_steps=1", "seed=4")
    (folder,) = folders()
    info = json.loads((folder / "run.json").read_text())
    assert info["status"] == "done"
    choices = {
        "problem": "logreg",
        "data": "breast_cancer",
        "solver": "bfgs",
        "outer": "descent",
        "method": "shine",
    }
    assert info["choices"] == choices
    assert info["seed"] == 4
    assert info["differs"] == {"solver": "bfgs", "outer.n_steps": 1}
    assert (info["n_train"], info["n_test"], info["n_outer"]) == (512, 28, 29)
    assert {"shine-exp", "torch", "numpy", "scipy", "scikit-learn"} == set(info["versions"])
    assert (info["device"], info["threads"]) == ("cpu", 1)
    assert {"python", "commit", "host"} <= set(info)


def test_where_and_how_to_run_is_the_same_run(shine_run, folders) -> None:
    shine_run("outer.n_steps=1")
    outcome = shine_run("outer.n_steps=1", "runtime.threads=2", "runtime.checkpoint_every=5")
    assert "done already" in outcome.out
    assert len(folders()) == 1


def test_the_default_run_has_no_hash(shine_run, folders, tmp_path: Path) -> None:
    shine_run("seed=7")
    assert folders() == [tmp_path / "results" / "logreg-breast_cancer" / "shine" / "seed=7"]


@pytest.mark.parametrize("method", ["grid", "random"])
def test_a_search_traces_its_best_so_far(shine_run, folders, trace, method: str) -> None:
    shine_run(f"method={method}")
    (folder,) = folders()
    losses = trace(folder).outer_loss.astype(float)[1:]
    assert len(losses) == 10
    assert losses.is_monotonic_decreasing
    assert losses.iloc[-1] < losses.iloc[0]
