"""Where a run stands, by what it has left and whether a process holds its lock."""

import json
import os
import time
from pathlib import Path

import pytest
from filelock import FileLock

from shine_exp.runs.state import State, find_states, is_locked, state_of, worth_a_word

INFO = {
    "choices": {"problem": "logreg", "data": "gaussian", "method": "cg"},
    "differs": {},
    "seed": 0,
    "n_steps": 10,
}
START = {"time": "2026-01-01T00:00:00+00:00", "host": "node", "pid": 7, "job_id": None}


@pytest.fixture
def left(tmp_path: Path):
    """The folder of a run that has left a status, three rows, and what else is given."""

    def make(status: str, start: dict | None = None, **more: object) -> Path:
        starts = [START | {"after_step": 0} | (start or {})]
        content = {"status": status, **INFO, "starts": starts, **more}
        (tmp_path / "config.yaml").write_text("seed: 0\n")
        (tmp_path / "run.json").write_text(json.dumps(content))
        (tmp_path / "trace.csv").write_text("step,time\r\n0,0\r\n1,2.5\r\n2,5\r\n")
        return tmp_path

    return make


@pytest.mark.parametrize("status", ["done", "diverged", "interrupted", "failed"])
def test_state_of_a_run_that_said_how_it_ended(left, status: str) -> None:
    found = state_of(left(status, {"step": 2, "log": "job.log"}, reason="it had one"))
    assert (found.state, found.step, found.n_steps) == (status, 2, 10)
    assert (found.reason, found.log, found.age) == ("it had one", "job.log", None)


def test_running_run_holds_its_lock_and_a_dead_one_does_not(left) -> None:
    folder = left("running")
    with FileLock(folder / ".lock"):
        running = state_of(folder)
    dead = state_of(folder)
    assert (running.state, dead.state) == (State.RUNNING, State.DEAD)
    assert (running.step, dead.step) == (2, 2), "by the last row"
    assert dead.place == "node, pid 7"
    assert "gone" in dead.reason


@pytest.mark.parametrize("status", ["interrupted", "failed"])
def test_run_that_is_being_taken_up_again_is_running(left, status: str) -> None:
    folder = left(status)
    with FileLock(folder / ".lock"):
        assert state_of(folder).state is State.RUNNING


def test_time_left_is_what_the_steps_of_this_start_took(left) -> None:
    """Two steps in 20 s until the last row, 3 s ago: eight more take 80 s, less these 3."""
    now = time.time()
    began = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(now - 23))
    folder = left("running", {"time": began})
    os.utime(folder / "trace.csv", (now - 3, now - 3))
    with FileLock(folder / ".lock"):
        found = state_of(folder)
    assert found.age == pytest.approx(3, abs=2)
    assert found.left == pytest.approx(77, abs=8)


def test_looking_at_a_lock_leaves_it_free(left) -> None:
    folder = left("running")
    assert not is_locked(folder)
    assert not (folder / ".lock").exists()
    with FileLock(folder / ".lock"):
        assert is_locked(folder)
    assert not is_locked(folder)
    with FileLock(folder / ".lock", timeout=0):
        pass


def test_solves_that_missed_their_tolerance_make_a_run_unsolved(left) -> None:
    found = state_of(left("done", unsolved={"inner": 3, "backward": 0}))
    assert (found.state, found.reason) == (
        State.UNSOLVED,
        "3 inner solves missed their tolerance",
    )
    assert found.state.is_end


def test_one_sample_in_a_hundred_is_worth_no_word() -> None:
    assert worth_a_word({"inner": 10, "backward": 11}, {"inner": 1000, "backward": 1000}) == {
        "backward": 11
    }
    assert worth_a_word({"inner": 1}, None) == {"inner": 1}


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"status": "done"}', json.dumps(INFO | {"status": "asleep"})],
    ids=["empty", "list", "nothing", "no choices", "status"],
)
def test_run_json_that_is_none_of_ours_is_damaged(left, content: str) -> None:
    folder = left("done")
    (folder / "run.json").write_text(content)
    found = state_of(folder)
    assert found.state is State.DAMAGED
    assert str(folder / "run.json") in found.reason


@pytest.mark.parametrize("broken", [{"starts": 3}, {"unsolved": [1]}, {"starts": [{"time": 1}]}])
def test_any_content_of_run_json_is_answered(left, broken: dict) -> None:
    folder = left("running", **broken)
    with FileLock(folder / ".lock"):
        assert state_of(folder).state in (State.RUNNING, State.DAMAGED)


def test_folder_without_run_json_has_begun_or_not(left, tmp_path: Path) -> None:
    assert state_of(tmp_path / "nothing").state is State.MISSING
    folder = left("running")
    (folder / "run.json").unlink()
    assert state_of(folder).state is State.DEAD
    with FileLock(folder / ".lock"):
        assert state_of(folder).state is State.RUNNING


def test_states_are_found_at_any_depth_but_not_in_hidden_folders(
    left, tmp_path: Path, shine_run
) -> None:
    shine_run("-m", "data=gaussian", "seed=1,0", "outer.n_steps=1")
    left("failed").joinpath("trace.csv").unlink()
    hidden = tmp_path / ".launcher"
    hidden.mkdir()
    (hidden / "config.yaml").write_text("")
    found = [(run.folder, run.state) for run in find_states(tmp_path)]
    assert [state for _, state in found] == ["failed", "done", "done"]
    assert [folder for folder, _ in found[1:]] == sorted(folder for folder, _ in found[1:])


def test_run_says_how_many_steps_it_has_and_where_its_errors_go(
    shine_run, folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "errors.log"
    descriptor, before = os.open(log, os.O_WRONLY | os.O_CREAT), os.dup(2)
    os.dup2(descriptor, 2)
    try:
        shine_run("data=gaussian", "outer.n_steps=3")
    finally:
        os.dup2(before, 2)
    (folder,) = folders()
    found = state_of(folder)
    assert (found.step, found.n_steps, found.log) == (3, 3, str(log))
