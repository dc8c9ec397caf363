"""What a run leaves on disk for the figures: trace.csv, one row per outer step, and run.json."""

import csv
import hashlib
import io
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shine_exp import durable
from shine_exp.errors import UserError, one_line

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

TRACE, INFO, CONFIG = "trace.csv", "run.json", "config.yaml"
ENDED = ("done", "diverged")  # statuses of a run that no command takes further

Row = Mapping[str, float | int | str]


class Stopwatch:
    """Seconds spent in the method; evaluation for the trace happens while it is paused.

    They are wall time. `continuations` grows whenever the process goes on after it was stopped. How
    long it stood still nobody says: of such a step no more counts than the process has worked, and
    the rest is added to `stopped`.
    """

    def __init__(self, elapsed: float = 0.0, continuations: Sequence[int] = ()) -> None:
        self.elapsed = elapsed
        self.stopped = 0.0
        self._continuations = continuations

    @contextmanager
    def running(self) -> Iterator[None]:
        before = len(self._continuations)
        worked = time.process_time()
        start = time.perf_counter()
        try:
            yield
        finally:
            wall = time.perf_counter() - start
            counted = wall
            if len(self._continuations) > before:
                counted = min(wall, time.process_time() - worked)
            self.elapsed += counted
            self.stopped += wall - counted


class TraceWriter:
    """Appends rows to trace.csv, each at once, so that whatever ends the run leaves a valid file.

    `content` is all that the file holds. A writer that is given what one before it held goes on
    after that, whatever the file has become. `sync` makes the rows durable.
    """

    def __init__(self, folder: Path, columns: Sequence[str], content: bytes | None = None) -> None:
        self._text = io.StringIO(newline="")
        self._writer = csv.DictWriter(self._text, columns)
        self._writer.writeheader()
        header = self._written()
        self.content = bytearray(header if content is None else content)
        self._file = durable.replace(folder / TRACE, bytes(self.content))

    def append(self, row: Row) -> None:
        """Write one row; a column that it lacks stays empty, one that the trace lacks is an error."""
        cells = {key: f"{v:.10g}" if isinstance(v, float) else v for key, v in row.items()}
        self._writer.writerow(cells)
        line = self._written()
        try:
            durable.append(self._file, line)
        except OSError:  # a full disk may have taken half of the row
            self._file.truncate(len(self.content))
            raise
        self.content += line

    def sync(self) -> None:
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def _written(self) -> bytes:
        """What the CSV writer has made since the last call."""
        line = self._text.getvalue()
        self._text.seek(0)
        self._text.truncate()
        return line.encode()


def fingerprint(content: bytes) -> dict[str, int | str]:
    """What run.json keeps of a trace: how many rows, and a SHA-256 that is the same for "\\r\\n"
    and "\\n".
    """
    lines = content.replace(b"\r\n", b"\n")
    return {"rows": max(0, lines.count(b"\n") - 1), "sha256": hashlib.sha256(lines).hexdigest()}


def check_trace(folder: Path, info: Mapping[str, Any]) -> None:
    """Raises `UserError` where a trace is not what the run left; earlier versions did not say."""
    left = info.get("trace")
    if left is None:
        return
    try:
        found = fingerprint(durable.read(folder / TRACE))
    except OSError as error:
        raise damaged(folder / TRACE, one_line(error)) from error
    if found != left:
        raise damaged(folder / TRACE, f"its {found['rows']} rows are not those that the run left")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a JSON file in one step: a reader sees the old one or the new one."""
    durable.write(path, (json.dumps(content, indent=2) + "\n").encode())


def read_info(folder: Path) -> dict[str, Any]:
    """run.json of a folder. Raises `UserError` where it is damaged."""
    try:
        info = json.loads((folder / INFO).read_bytes())
    except (ValueError, OSError, RecursionError) as error:
        raise damaged(folder / INFO, str(error)) from error
    return _table(folder / INFO, info)


def damaged(path: Path, why: str) -> UserError:
    """The error for a file of a run that is not what `shine-run` leaves."""
    reason = " ".join(why.split())
    return UserError(
        f"{path} cannot be used: {reason}; move this run's folder away, or delete it and run it again"
    )


@dataclass(frozen=True)
class Run:
    """One run on disk.

    `info` is run.json: `status` ("running", "done", "diverged", "interrupted" or "failed"),
    `choices` (the option chosen in each configuration group: problem, data, solver, outer,
    method), `seed`, `differs` (dotted keys whose values are not the defaults of these choices),
    sizes of the sets (`n_train`, …), versions, host. The larger files are read when first asked
    for.
    """

    folder: Path
    info: dict[str, Any]

    @property
    def label(self) -> str:
        """The method, and what was changed from its defaults."""
        changed = ", ".join(f"{key}={value}" for key, value in self.info["differs"].items())
        return (
            f"{self.info['choices']['method']} ({changed})"
            if changed
            else str(self.info["choices"]["method"])
        )

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.yaml. Raises `UserError` where it is damaged."""
        return _read_config(self.folder)

    @cached_property
    def trace(self) -> "pd.DataFrame":
        """trace.csv: numbers are floats, an empty cell NaN. Raises `UserError` where it is damaged.

        That of a run that has just begun has no row. One that is not at its end may be in the
        middle of its last line, which then does not count.
        """
        return _read_trace(self.folder, ended=self.info.get("status") in ENDED)


def load_runs(root: Path) -> list[Run]:
    """Every run below a folder, in path order. Raises `UserError` where a run.json is damaged."""
    return [load_run(folder) for folder in run_folders(root)]


def run_folders(root: Path) -> list[Path]:
    """The folders below `root` with a run.json and a trace or a configuration beside it, in path
    order.
    """
    folders = [path.parent for path in sorted(root.rglob(INFO))]
    return [
        folder for folder in folders if (folder / CONFIG).is_file() or (folder / TRACE).is_file()
    ]


def load_run(folder: Path) -> Run:
    """The run in a folder. Raises `UserError` where its run.json is damaged."""
    info = read_info(folder)
    try:
        return Run(folder, _printable(info))
    except RecursionError as error:
        raise damaged(folder / INFO, "it is nested too deeply") from error


def _printable(content: Any) -> Any:
    """JSON whose texts fit in a line: what moves a terminal's cursor or cannot be encoded stands
    as its escape.
    """
    if isinstance(content, dict):
        return {_printable(key): _printable(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_printable(value) for value in content]
    if isinstance(content, str) and not content.isprintable():
        return "".join(
            c if c.isprintable() else c.encode("unicode_escape").decode() for c in content
        )
    return content


def _read_config(folder: Path) -> dict[str, Any]:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is missing on some machines
    try:
        config = yaml.load((folder / CONFIG).read_bytes(), loader)
    except (ValueError, OSError, RecursionError, yaml.YAMLError) as error:
        raise damaged(folder / CONFIG, str(error)) from error
    return _table(folder / CONFIG, config)


def _read_trace(folder: Path, ended: bool) -> "pd.DataFrame":
    import pandas as pd

    path = folder / TRACE
    try:
        text = path.read_bytes().decode()
        whole = text[: text.rfind("\n") + 1]
        if ended and whole != text:
            raise ValueError("its last line is cut")
        if not whole:
            raise ValueError("it is empty")
        header, *rows = csv.reader(io.StringIO(whole, newline=""), strict=True)
        for number, row in enumerate(rows, 1):
            if len(row) != len(header):
                raise ValueError(f"row {number} has {len(row)} values for {len(header)} columns")
    except (ValueError, OSError, csv.Error) as error:
        raise damaged(path, str(error)) from error
    columns = zip(*rows, strict=True) if rows else [()] * len(header)
    return pd.DataFrame(
        {name: _column(values) for name, values in zip(header, columns, strict=True)}
    )


def _column(values: Sequence[str]) -> "npt.NDArray[Any]":
    """Numbers where all are, else texts."""
    import numpy as np

    try:
        return np.array([float(value or "nan") for value in values])
    except ValueError:
        return np.array(values, dtype=object)


def _table(path: Path, content: Any) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise damaged(path, "it is not a table of names and values")
    return content
