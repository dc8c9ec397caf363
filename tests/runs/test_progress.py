"""How far a run and a sweep have come: a live bar on a terminal, lines elsewhere."""

import io
import sys
from pathlib import Path

import pytest

from shine_exp.runs import progress
from shine_exp.runs.progress import Progress
from shine_exp.runs.state import RunState, State
from shine_exp.runs.sweeps.progress import SweepProgress


class Terminal(io.StringIO):
    """A stream that says that it is one."""

    def isatty(self) -> bool:
        return True


def steps(verbose: bool = True) -> None:
    run = Progress("cg/seed=1", range(3, 6), verbose)
    for step in run:
        run.after(step + 1, {"loss": "0.5"})


def test_run_has_a_line_every_so_often(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    steps()
    assert capsys.readouterr() == (
        "".join(f"cg/seed=1: step {step} of 6, loss 0.5\n" for step in (4, 5, 6)),
        "",
    )
    monkeypatch.setattr(progress, "EVERY", 3600.0)
    steps()
    monkeypatch.setattr(progress, "EVERY", 0.0)
    steps(verbose=False)
    assert capsys.readouterr() == ("", "")


def test_run_has_a_bar_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    steps()
    assert "cg/seed=1" in terminal.getvalue()
    assert capsys.readouterr().out == ""


def ended(state: State, **more: object) -> RunState:
    return RunState(Path("cg"), state, {}, **more)


def test_sweep_has_a_line_for_each_run(capsys: pytest.CaptureFixture[str]) -> None:
    with SweepProgress(2) as sweep:
        sweep.ended(ended(State.DONE, step=4, n_steps=4), "cg/seed=1")
        sweep.ended(ended(State.FAILED, reason="ValueError: no luck"), "cg/seed=2")
    assert capsys.readouterr().out.splitlines() == [
        "1 of 2: cg/seed=1: done; step 4 of 4",
        "2 of 2: cg/seed=2: failed; ValueError: no luck",
    ]


def test_sweep_on_a_terminal_tells_of_failures_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with SweepProgress(2) as sweep:
        sweep.ended(ended(State.DONE), "cg/seed=1")
        sweep.ended(ended(State.FAILED), "cg/seed=2")
        sweep.bar.refresh()
    assert capsys.readouterr().out == "2 of 2: cg/seed=2: failed\n"
    assert "1 done, 1 failed" in terminal.getvalue()
