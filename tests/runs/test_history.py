"""run.json: what a run is, where it stands, and every start of it."""

import json
import os
from pathlib import Path

import pytest

from shine_exp.errors import UserError
from shine_exp.runs.history import PROVENANCE, History
from shine_exp.runs.machine import JOB_IDS, job_id

ABOUT = {"seed": 3, "choices": {"method": "cg"}}


def left(step: int, backward: int = 0) -> dict:
    return {"step": step, "unsolved": {"inner": 0, "backward": backward}}


def info(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


def statuses(folder: Path) -> list[str]:
    return [entry["status"] for entry in info(folder)["starts"]]


def test_start_says_who_is_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    History(tmp_path, ABOUT).start("cpu", 2, left(4))
    found = info(tmp_path)
    assert (found["status"], found["seed"], found["unsolved"]) == (
        "running",
        3,
        {"inner": 0, "backward": 0},
    )
    (entry,) = found["starts"]
    assert (entry["status"], entry["pid"], entry["job_id"], entry["after_step"]) == (
        "running",
        os.getpid(),
        "17",
        4,
    )
    assert (entry["device"], entry["threads"]) == ("cpu", 2)
    assert {"time", "host", "python", "versions", "commit"} <= set(entry)
    assert {name: found[name] for name in PROVENANCE} == {name: entry[name] for name in PROVENANCE}


def test_every_start_is_kept_with_its_end(tmp_path: Path) -> None:
    first = History(tmp_path, ABOUT)
    first.start("cpu", 1, left(0))
    first.end("interrupted", left(4) | {"seconds_stopped": 2.0})
    second = History(tmp_path, ABOUT)
    second.start("cpu", 8, left(4))
    second.end("done", left(9, backward=3))
    found = info(tmp_path)
    assert statuses(tmp_path) == ["interrupted", "done"]
    assert (found["status"], found["threads"], found["unsolved"]["backward"]) == ("done", 8, 3)
    assert [
        (entry["threads"], entry["after_step"], entry["step"]) for entry in found["starts"]
    ] == [
        (1, 0, 4),
        (8, 4, 9),
    ]
    assert [entry.get("seconds_stopped") for entry in found["starts"]] == [2.0, None]


def test_start_after_one_that_never_ended_says_killed(tmp_path: Path) -> None:
    History(tmp_path, ABOUT).start("cpu", 1, left(0))
    History(tmp_path, ABOUT).start("cpu", 1, left(0))
    assert statuses(tmp_path) == ["killed", "running"]


def test_run_of_an_earlier_version_keeps_its_provenance(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(
        json.dumps({"status": "interrupted", "host": "old", "versions": {"torch": "2.4"}})
    )
    History(tmp_path, ABOUT).start("cpu", 1, left(0))
    assert info(tmp_path)["starts"][0] == {
        "status": "interrupted",
        "host": "old",
        "versions": {"torch": "2.4"},
    }
    assert statuses(tmp_path) == ["interrupted", "running"]


@pytest.mark.parametrize("starts", [3, {"a": 1}, ["running"]])
def test_starts_of_another_kind_are_refused(tmp_path: Path, starts: object) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"status": "running", "starts": starts}))
    with pytest.raises(UserError, match="its starts are not a list of tables"):
        History(tmp_path, ABOUT)


def failed(folder: Path, error: Exception) -> dict:
    history = History(folder, ABOUT)
    history.start("cpu", 1, left(0))
    try:
        raise error
    except Exception as caught:
        history.end("failed", left(2), caught)
    return info(folder)


def test_failure_has_a_reason_in_one_line_and_a_traceback(tmp_path: Path) -> None:
    found = failed(tmp_path, ZeroDivisionError("two\nlines"))
    assert (found["status"], found["reason"]) == ("failed", "ZeroDivisionError: two lines")
    (entry,) = found["starts"]
    assert entry["reason"] == found["reason"]
    assert entry["traceback"][0].startswith("Traceback")
    assert any(__name__.rpartition(".")[2] in line for line in entry["traceback"])


@pytest.mark.parametrize("error", [UserError("take less"), OSError(28, "No space left on device")])
def test_failure_that_the_user_can_mend_has_no_traceback(tmp_path: Path, error: Exception) -> None:
    (entry,) = failed(tmp_path, error)["starts"]
    assert str(error) in entry["reason"]
    assert "traceback" not in entry


def test_reason_goes_with_the_next_start(tmp_path: Path) -> None:
    failed(tmp_path, ZeroDivisionError())
    history = History(tmp_path, ABOUT)
    history.start("cpu", 1, left(2))
    assert "reason" not in info(tmp_path)
    assert statuses(tmp_path) == ["failed", "running"]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": "17"}, "17"),
        ({"SLURM_JOB_ID": "18", "SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "3"}, "17_3"),
        ({"PBS_JOBID": "5.server"}, "5.server"),
    ],
)
def test_job_id(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str | None
) -> None:
    for name in (*JOB_IDS, "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert job_id() == expected
