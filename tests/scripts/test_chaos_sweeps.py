"""The trials of disturbed sweeps tell a whole sweep from one that is not."""

import json
import shutil
from pathlib import Path

import pytest

SWEEP = ("-m", "data=gaussian", "outer.n_steps=2", "method=cg", "seed=0,1")


@pytest.fixture
def whole(shine_run, script, tmp_path: Path):
    """The module, a trial whose sweep is whole, and the traces that it should have."""
    chaos = script("chaos_sweeps")
    assert shine_run(*SWEEP).code == 0
    trial = chaos.Trial(tmp_path, "basic")
    return chaos, trial, trial.numbers()


def test_whole_sweep_passes(whole) -> None:
    chaos, trial, expected = whole
    chaos.check(trial, expected)
    assert len(expected) == 2


@pytest.mark.parametrize("what", ["lost", "twice", "unfinished", "numbers", "left behind"])
def test_what_is_wrong_with_a_sweep_is_found(whole, what: str) -> None:
    chaos, trial, expected = whole
    folder = next(trial.folder.glob("results/*/*/*/run.json")).parent
    info = json.loads((folder / "run.json").read_text())
    if what == "lost":
        shutil.rmtree(folder)
    if what == "twice":
        info["starts"] *= 2
    if what == "unfinished":
        info["status"] = "interrupted"
    if what == "numbers":
        trace = (folder / "trace.csv").read_text()
        (folder / "trace.csv").write_text(trace.replace("0.", "0.1", 1))
    if what == "left behind":
        (folder / ".trace.csv.0.tmp").touch()
    if what != "lost":
        (folder / "run.json").write_text(json.dumps(info))
    with pytest.raises(chaos.Wrong):
        chaos.check(trial, expected)
