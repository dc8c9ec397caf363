import json
from pathlib import Path

import pytest

from shine_exp.errors import UserError
from shine_exp.figures.read import read_runs

ROWS = [(1, 10, 0.5, 0.6), (2, 20, 0.3, 0.4)]


def test_runs_are_found_at_any_depth_and_once(add_run, results: Path) -> None:
    folders = [add_run("shine", 1, ROWS), add_run("cg", 0, ROWS)]
    (results / "run.json").write_text("{}")
    assert [run.folder for run in read_runs(results.parent)] == sorted(folders)


def test_no_folder_and_no_runs(results: Path) -> None:
    with pytest.raises(UserError, match=r"no such results folder: .*nowhere"):
        read_runs(results / "nowhere")
    with pytest.raises(UserError, match=r"no runs in .*: shine-run"):
        read_runs(results)


@pytest.mark.parametrize("name", ["run.json", "config.yaml", "trace.csv"])
def test_a_damaged_file_is_named(add_run, results: Path, name: str) -> None:
    path = add_run("shine", 0, ROWS) / name
    path.write_bytes(b'{[\n"')
    with pytest.raises(UserError) as error:
        read_runs(results)
    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"status": "finished"}, "its status is 'finished', not one of: running, done, diverged, interrupted"),
        ({"seed": "0"}, "seed or differs is missing"),
        ({"differs": None}, "seed or differs is missing"),
        ({"choices": {"problem": "logreg"}}, "choices must name each of: problem, data, outer, method"),
    ],
)
def test_a_run_json_that_lacks_something(add_run, results: Path, change: dict[str, object], message: str) -> None:
    path = add_run("shine", 0, ROWS) / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=f"run.json cannot be used: {message}"):
        read_runs(results)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("test_loss", "tset_loss", "it lacks: test_loss"),
        ("0.6", "0.6.1", "test_loss has a value that is not a number"),
        ("1,2,", "1,0.5,", "time has a gap or goes down"),
        ("1,2,", "1,,", "time has a gap or goes down"),
    ],
)
def test_a_trace_that_is_not_one(add_run, results: Path, old: str, new: str, message: str) -> None:
    path = add_run("shine", 0, ROWS) / "trace.csv"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UserError, match=f"trace.csv cannot be used: {message}"):
        read_runs(results)
