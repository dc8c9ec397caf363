import json
from pathlib import Path

import pytest
from traces import theorem_row

from shine_exp.errors import UserError
from shine_exp.figures.read import Reading, find_runs, read_traces

ROWS = [(1, 10, 0.5, 0.6), (2, 20, 0.3, 0.4)]


def read(root: Path) -> Reading:
    """Everything below a folder, with all that was refused."""
    found = find_runs(root)
    traces = read_traces(found.runs)
    return Reading(traces.runs, found.refused + traces.refused)


def only_line(reading: Reading) -> str:
    assert not reading.runs
    (error,) = reading.refused
    assert "\n" not in str(error)
    return str(error)


def test_runs_are_found_at_any_depth_and_once(add_run, results: Path) -> None:
    folders = [add_run("shine", 1, ROWS), add_run("cg", 0, ROWS)]
    (results / "run.json").write_text("{}")
    assert [run.folder for run in read(results.parent).runs] == sorted(folders)


def test_no_folder_and_no_runs(results: Path) -> None:
    with pytest.raises(UserError, match=r"no such results folder: .*nowhere"):
        find_runs(results / "nowhere")
    with pytest.raises(UserError, match=r"no runs in .*: shine-run"):
        find_runs(results)


@pytest.mark.parametrize("name", ["run.json", "trace.csv"])
@pytest.mark.parametrize(
    "content", [b'{[\n"', b"\xff\xfe\x00\x81garbled", b""], ids=["syntax", "binary", "empty"]
)
def test_one_damaged_run_is_named_and_the_others_are_read(
    add_run, results: Path, name: str, content: bytes
) -> None:
    good = add_run("cg", 0, ROWS)
    path = add_run("shine", 0, ROWS) / name
    path.write_bytes(content)
    reading = read(results)
    assert [run.folder for run in reading.runs] == [good]
    (error,) = reading.refused
    assert str(error).startswith(f"{path} cannot be used: ")
    assert "\n" not in str(error)


def test_a_configuration_is_read_only_where_it_is_needed(
    add_run, add_network, results: Path
) -> None:
    (add_run("shine", 0, ROWS) / "config.yaml").write_bytes(b'{[\n"')
    path = add_network("shine", 0, [{}]) / "config.yaml"
    path.write_bytes(b'{[\n"')
    reading = read(results)
    assert [run.info["choices"]["outer"] for run in reading.runs] == ["hoag"]
    assert [str(error).split(" cannot")[0] for error in reading.refused] == [str(path)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"status": "finished"},
            "its status is 'finished', not one of: running, done, diverged, interrupted",
        ),
        ({"seed": "0"}, "seed or differs is missing"),
        ({"differs": None}, "seed or differs is missing"),
        (
            {"choices": {"problem": "logreg"}},
            "choices must name each of: problem, data, outer, method",
        ),
        ({"unsolved": 3}, "unsolved is not a table of counts"),
        ({"unsolved": {"inner": "many"}}, "unsolved is not a table of counts"),
        ({"data": "digits"}, "data has no digest that is a text"),
        ({"data": {"digest": 7}}, "data has no digest that is a text"),
    ],
)
def test_a_run_json_that_lacks_something(
    add_run, results: Path, change: dict[str, object], message: str
) -> None:
    path = add_run("shine", 0, ROWS) / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert f"run.json cannot be used: {message}" in only_line(read(results))


def test_a_run_json_without_status(add_run, results: Path) -> None:
    path = add_run("shine", 0, ROWS) / "run.json"
    info = json.loads(path.read_text())
    del info["status"]
    path.write_text(json.dumps(info))
    assert "its status is None" in only_line(read(results))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("evals", "evlas", "it lacks: evals"),
        ("0.6", "0.6.1", "test_loss has a value that is not a number"),
        ("1,2,", "1,0.5,", "time has a gap or goes down"),
        ("1,2,", "1,,", "time has a gap or goes down"),
        ("1,2,", "2,2,", "a step is missing, or there twice"),
        ("1,2,", "0,2,", "a step is missing, or there twice"),
        (",0.4", "", "row 2 has 7 values for 8 columns"),
        ("0.4\n", "0.4", "its last line is cut"),
        ("0.4\n", "0.", "its last line is cut"),
    ],
)
def test_a_trace_that_is_not_one(add_run, results: Path, old: str, new: str, message: str) -> None:
    path = add_run("shine", 0, ROWS) / "trace.csv"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert f"trace.csv cannot be used: {message}" in only_line(read(results))


def test_a_trace_whose_columns_of_tolerance_are_text(add_run, results: Path) -> None:
    row = {"step": 0, "time": 1.0, "evals": 1, "products": 1, "outer_loss": 0.5, "test_loss": 0.5}
    add_run("shine", 0, [row | {"tol": 0.1, "inner_residual": "small"}])
    assert "inner_residual has a value that is not a number" in only_line(read(results))


@pytest.mark.parametrize(
    ("status", "read_rows"),
    [("running", 1), ("interrupted", 1), ("failed", 1), ("done", None), ("diverged", None)],
)
def test_the_last_line_of_a_run_that_goes_on_may_be_cut(
    add_run, results: Path, status: str, read_rows: int | None
) -> None:
    path = add_run("shine", 0, ROWS, status=status) / "trace.csv"
    path.write_bytes(path.read_bytes()[:-4])
    reading = read(results)
    if read_rows is None:
        assert "trace.csv cannot be used: its last line is cut" in only_line(reading)
    else:
        assert [len(run.trace) for run in reading.runs] == [read_rows]


def test_a_finished_run_without_a_row_is_refused(add_run, results: Path) -> None:
    path = add_run("shine", 0, ROWS) / "trace.csv"
    path.write_text(path.read_text().splitlines(keepends=True)[0])
    assert "trace.csv cannot be used: it has no row, but the run is done" in only_line(
        read(results)
    )


def test_a_run_that_is_there_twice_is_refused_and_no_other(
    add_run, add_network, results: Path
) -> None:
    first, second = add_run("shine", 0, ROWS), add_run("shine", 0, ROWS, suffix="-copy")
    networks = [add_network("jf", 0, [{}], suffix=suffix) for suffix in ("", "-copy")]
    others = [
        add_run("shine", 1, ROWS),
        add_run("shine", 0, ROWS, differs={"solver.memory": 5}, suffix="-m"),
    ]
    row = theorem_row("jf", 1.0, 1.0, 0.0)
    others.append(add_run("shine", 0, [row], outer="theorem", suffix="-t"))
    found = find_runs(results)
    assert {run.folder for run in found.runs} == set(others)
    where = "move one of them away"
    assert [str(error) for error in found.refused] == [
        f"logreg-20news, shine has seed 0 twice: {first} and {second}; {where}",
        f"mdeq-digits_images, jf has seed 0 twice: {networks[0]} and {networks[1]}; {where}",
    ]
