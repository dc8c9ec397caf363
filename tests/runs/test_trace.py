import errno
import json
from io import FileIO
from pathlib import Path

import pandas as pd
import pytest

from shine_exp.errors import UserError
from shine_exp.runs.history import write_json
from shine_exp.runs.run import load_runs, read_info
from shine_exp.runs.trace import Stopwatch, TraceWriter, check_trace, fingerprint

COLUMNS = ("step", "time", "alpha")


def write(folder: Path, steps: range, content: bytes | None = None) -> bytes:
    """What the writer holds after a row for each step."""
    writer = TraceWriter(folder, COLUMNS, content)
    for step in steps:
        writer.append({"step": step, "time": step / 10, "alpha": -step / 3})
    writer.close()
    return bytes(writer.content)


def test_rows_are_on_disk_at_once(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path, COLUMNS)
    writer.append({"step": 0, "alpha": 1 / 3})
    assert (tmp_path / "trace.csv").read_text().splitlines() == [
        "step,time,alpha",
        "0,,0.3333333333",
    ]
    writer.close()


@pytest.mark.parametrize("damage", [b"", b"step,time,alpha\r\n", b"\x00garbled", None])
def test_writer_goes_on_after_given_content_whatever_the_file_is(
    tmp_path: Path, damage: bytes | None
) -> None:
    whole = write(tmp_path, range(5))
    content = write(tmp_path, range(3))
    path = tmp_path / "trace.csv"
    path.unlink() if damage is None else path.write_bytes(damage)
    assert write(tmp_path, range(3, 5), content) == whole
    assert path.read_bytes() == whole


def test_without_content_a_trace_begins_anew(tmp_path: Path) -> None:
    write(tmp_path, range(5))
    write(tmp_path, range(1))
    assert pd.read_csv(tmp_path / "trace.csv").step.tolist() == [0]


def test_full_disk_leaves_whole_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = TraceWriter(tmp_path, COLUMNS)
    writer.append({"step": 0})
    before = (tmp_path / "trace.csv").read_bytes()

    def half(file: FileIO, content: bytes) -> None:
        file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shine_exp.runs.trace.durable.append", half)
    with pytest.raises(OSError, match="No space"):
        writer.append({"step": 1, "alpha": 0.5})
    writer.close()
    assert (tmp_path / "trace.csv").read_bytes() == bytes(writer.content) == before


def test_a_column_that_the_trace_lacks(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path, COLUMNS)
    with pytest.raises(ValueError, match="beta"):
        writer.append({"step": 0, "beta": 1.0})
    writer.close()


def test_the_clock_stands_still_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("shine_exp.runs.trace.time.perf_counter", lambda: now[0])
    clock = Stopwatch(2.0)
    now[0] = 100.0
    with clock.running():
        now[0] = 103.0
    now[0] = 200.0
    assert clock.elapsed == 5.0
    assert clock.stopped == 0.0


@pytest.mark.parametrize(("worked", "counted"), [(3.0, 3.0), (250.0, 100.0)])
def test_clock_counts_no_more_than_the_work_of_a_step_that_was_stopped(
    monkeypatch: pytest.MonkeyPatch, worked: float, counted: float
) -> None:
    """Two threads can work longer than the wall clock goes."""
    now = {"perf_counter": 0.0, "process_time": 0.0}
    for name in now:
        monkeypatch.setattr(f"shine_exp.runs.trace.time.{name}", lambda name=name: now[name])
    continued: list[int] = [18]  # from before the step
    clock = Stopwatch(2.0, continued)
    with clock.running():
        now["perf_counter"] = 10.0
    assert clock.elapsed == 12.0, "not stopped: wall time, however little of it was work"
    with clock.running():
        now.update(perf_counter=110.0, process_time=worked)
        continued.append(18)
    assert clock.elapsed == 12.0 + counted
    assert clock.stopped == 100.0 - counted


def a_run(folder: Path, rows: int) -> None:
    folder.mkdir(parents=True)
    write(folder, range(rows))
    write_json(
        folder / "run.json",
        {"status": "done", "choices": {"method": "cg"}, "differs": {"outer.n_steps": 2}},
    )
    (folder / "config.yaml").write_text("seed: 3\n")


def test_load_runs_finds_runs_in_path_order(tmp_path: Path) -> None:
    for name, rows in (("b/cg/seed=0", 2), ("a/cg/seed=0", 3)):
        a_run(tmp_path / name, rows)
    write_json(tmp_path / "run.json", {"of": "another program"})
    runs = load_runs(tmp_path)
    assert [run.folder.relative_to(tmp_path).parts[0] for run in runs] == ["a", "b"]
    assert [len(run.trace) for run in runs] == [3, 2]
    assert runs[0].config == {"seed": 3}
    assert runs[0].label == "cg (outer.n_steps=2)"


@pytest.mark.parametrize(("missing", "of"), [("trace.csv", "trace"), ("config.yaml", "config")])
def test_a_file_of_a_run_that_is_gone_is_named(tmp_path: Path, missing: str, of: str) -> None:
    a_run(tmp_path / "cg", 1)
    (tmp_path / "cg" / missing).unlink()
    (run,) = load_runs(tmp_path)
    with pytest.raises(UserError, match=f"{missing} cannot be used: .*No such file"):
        getattr(run, of)


def test_a_run_that_has_just_begun_has_an_empty_trace(tmp_path: Path) -> None:
    a_run(tmp_path / "cg", 0)
    (run,) = load_runs(tmp_path)
    assert (list(run.trace.columns), len(run.trace)) == (list(COLUMNS), 0)
    assert run.trace.dtypes.eq("float64").all()


def read_everything(root: Path) -> None:
    for run in load_runs(root):
        assert run.config
        assert len(run.trace)


def test_the_larger_files_are_read_when_asked_for_and_once(tmp_path: Path) -> None:
    a_run(tmp_path / "cg", 2)
    (run,) = load_runs(tmp_path)
    (tmp_path / "cg" / "config.yaml").write_text("seed: 4\n")
    assert run.config == {"seed": 4}
    trace = run.trace
    (tmp_path / "cg" / "trace.csv").unlink()
    assert run.trace is trace


def test_a_trace_has_floats_and_texts(tmp_path: Path) -> None:
    a_run(tmp_path / "cg", 0)
    (tmp_path / "cg" / "trace.csv").write_bytes(b'step,name,alpha\r\n0,"a, b",\r\n1,nan,-inf\r\n')
    (run,) = load_runs(tmp_path)
    assert run.trace["name"].tolist() == ["a, b", "nan"]
    assert run.trace["step"].dtype == run.trace["alpha"].dtype == "float64"
    assert run.trace["alpha"].isna().tolist() == [True, False]


@pytest.mark.parametrize("cut", range(1, 6))
def test_a_line_that_is_being_written_does_not_count_unless_the_run_has_ended(
    tmp_path: Path, cut: int
) -> None:
    a_run(tmp_path / "cg", 3)
    path = tmp_path / "cg" / "trace.csv"
    path.write_bytes(path.read_bytes()[:-cut])
    for status in ("done", "diverged", "running", "interrupted", "failed"):
        info = {"status": status, "choices": {"method": "cg"}, "differs": {}}
        write_json(tmp_path / "cg" / "run.json", info)
        (run,) = load_runs(tmp_path)
        if status in ("done", "diverged"):
            with pytest.raises(UserError, match=r"trace\.csv cannot be used: its last line is cut"):
                len(run.trace)
        else:
            assert run.trace["step"].tolist() == [0, 1]


def test_texts_of_run_json_fit_in_a_line(tmp_path: Path) -> None:
    a_run(tmp_path / "cg", 1)
    info = {
        "status": "done",
        "choices": {"method": "a\nb"},
        "differs": {"k\u202e": "\ud800é²", "m": ["\t", 3]},
    }
    write_json(tmp_path / "cg" / "run.json", info)
    (run,) = load_runs(tmp_path)
    assert run.label == r"a\nb (k\u202e=\ud800é², m=['\\t', 3])"
    assert run.label.isprintable()
    assert read_info(tmp_path / "cg") == info


def test_a_run_json_that_is_nested_too_deeply(tmp_path: Path) -> None:
    a_run(tmp_path / "cg", 1)
    depth = 100_000  # where Python gives up depends on its version
    (tmp_path / "cg" / "run.json").write_text('{"a": ' * depth + "1" + "}" * depth)
    with pytest.raises(UserError, match=r"run\.json cannot be used"):
        load_runs(tmp_path)


@pytest.mark.parametrize("name", ["run.json", "config.yaml", "trace.csv"])
@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00\x81garbled", b'{[\n"', b""], ids=["binary", "syntax", "empty"]
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    a_run(tmp_path / "cg", 2)
    path = tmp_path / "cg" / name
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_everything(tmp_path)
    assert str(error.value).startswith(f"{path} cannot be used: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["run.json", "config.yaml"])
def test_a_file_that_is_a_list(tmp_path: Path, name: str) -> None:
    a_run(tmp_path / "cg", 2)
    (tmp_path / "cg" / name).write_text("[1]")
    with pytest.raises(
        UserError, match=f"{name} cannot be used: it is not a table of names and values"
    ):
        read_everything(tmp_path)


def test_json_is_replaced_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(tmp_path / "run.json", {"status": "old"})

    def fail(source: Path, target: Path) -> None:
        assert json.loads(Path(source).read_text()) == {"status": "new"}
        raise OSError

    monkeypatch.setattr("shine_exp.durable.os.replace", fail)
    with pytest.raises(OSError):  # noqa: PT011
        write_json(tmp_path / "run.json", {"status": "new"})
    assert read_info(tmp_path) == {"status": "old"}


def test_a_damaged_run_json(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"status": ')
    with pytest.raises(UserError, match=r"run\.json"):
        read_info(tmp_path)


def test_trace_of_an_earlier_version_is_not_checked(tmp_path: Path) -> None:
    check_trace(tmp_path, {"status": "done"})


def test_trace_with_other_line_ends_is_the_same(tmp_path: Path) -> None:
    content = write(tmp_path, range(3))
    assert fingerprint(content) == fingerprint(content.replace(b"\r\n", b"\n"))
    assert fingerprint(content)["rows"] == 3


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: [],
        lambda lines: lines[:1],
        lambda lines: lines[:-1],
        lambda lines: [*lines[:2], *lines[3:]],
        lambda lines: [*lines, lines[-1]],
        lambda lines: [*lines[:-1], lines[-1][:-3]],
        lambda lines: [line.replace(b"2,0.2", b"2,0.3") for line in lines],
    ],
    ids=["empty", "header only", "shorter", "without a row", "doubled", "cut", "changed"],
)
def test_finished_trace_that_is_not_what_the_run_left_is_refused(tmp_path: Path, damage) -> None:
    content = write(tmp_path, range(4))
    info = {"trace": fingerprint(content)}
    check_trace(tmp_path, info)
    (tmp_path / "trace.csv").write_bytes(b"".join(damage(content.splitlines(keepends=True))))
    with pytest.raises(
        UserError, match=r"trace\.csv cannot be used: its \d rows are not those that the run left"
    ):
        check_trace(tmp_path, info)


def test_finished_trace_that_is_gone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"trace\.csv cannot be used: FileNotFoundError"):
        check_trace(tmp_path, {"trace": fingerprint(b"step\n")})
