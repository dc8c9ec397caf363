"""What a run leaves on disk for the figures: trace.csv, one row per outer step, and run.json."""

import csv
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from shine_exp.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

TRACE, INFO, CONFIG = "trace.csv", "run.json", "config.yaml"

Row = Mapping[str, float | int | str]


class Stopwatch:
    """Seconds spent in the method; evaluation for the trace happens while it is paused."""

    def __init__(self, elapsed: float = 0.0) -> None:
        self.elapsed = elapsed

    @contextmanager
    def running(self) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.elapsed += time.perf_counter() - start


class TraceWriter:
    """Appends rows to trace.csv and flushes each, so that whatever ends the run leaves a valid file.

    Opened with `keep`, the last step that counts, it first drops the rows beyond: steps that a resumed run repeats.
    """

    def __init__(self, folder: Path, columns: Sequence[str], keep: int | None = None) -> None:
        self.columns = list(columns)
        path = folder / TRACE
        rows = [] if keep is None else _read(path, self.columns, keep)
        temporary = path.with_suffix(".tmp")
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(rows)
        os.replace(temporary, path)
        self._file = path.open("a", newline="")
        self._writer = csv.DictWriter(self._file, self.columns)

    def append(self, row: Row) -> None:
        """Write one row; a column that the row lacks stays empty, one that the trace lacks is an error."""
        self._writer.writerow({key: f"{v:.10g}" if isinstance(v, float) else v for key, v in row.items()})
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a JSON file in one step: a reader sees the old one or the new one."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(temporary, path)


def read_info(folder: Path) -> dict[str, Any]:
    """run.json of a folder. Raises `UserError` where it is damaged."""
    try:
        info = json.loads((folder / INFO).read_text())
    except (ValueError, OSError) as error:
        raise damaged(folder / INFO, str(error)) from error
    return _table(folder / INFO, info)


def damaged(path: Path, why: str) -> UserError:
    """The error for a file of a run that is not what `shine-run` leaves."""
    reason = " ".join(why.split())
    return UserError(f"{path} cannot be used: {reason}; move this run's folder away, or delete it and run it again")


@dataclass(frozen=True)
class Run:
    """One run on disk.

    `info` is run.json: `status` ("running", "done", "diverged", "interrupted" or "failed"), `choices` (the option
    chosen in each configuration group: problem, data, solver, outer, method), `seed`, `differs` (dotted keys whose
    values are not the defaults of these choices), sizes of the sets (`n_train`, …), versions, host.
    """

    folder: Path
    info: dict[str, Any]
    config: dict[str, Any]
    trace: "pd.DataFrame"

    @property
    def label(self) -> str:
        """The method, and what was changed from its defaults."""
        changed = ", ".join(f"{key}={value}" for key, value in self.info["differs"].items())
        return f"{self.info['choices']['method']} ({changed})" if changed else str(self.info["choices"]["method"])


def load_runs(root: Path) -> list[Run]:
    """Every run below a folder that has a configuration, a run.json and a trace, in path order.

    The trace of a run that has just begun has no row. Raises `UserError` for a file that is damaged.
    """
    folders = [path.parent for path in sorted(root.rglob(INFO))]
    whole = [folder for folder in folders if (folder / CONFIG).is_file() and (folder / TRACE).is_file()]
    return [Run(folder, read_info(folder), _read_config(folder), _read_trace(folder)) for folder in whole]


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load((folder / CONFIG).read_text())
    except (ValueError, OSError, yaml.YAMLError) as error:
        raise damaged(folder / CONFIG, str(error)) from error
    return _table(folder / CONFIG, config)


def _read_trace(folder: Path) -> "pd.DataFrame":
    import pandas as pd  # half a second, and what runs needs none of it

    try:
        trace = pd.read_csv(folder / TRACE)
    except (ValueError, OSError) as error:
        raise damaged(folder / TRACE, str(error)) from error
    return trace if len(trace) else trace.astype(float)


def _table(path: Path, content: Any) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise damaged(path, "it is not a table of names and values")
    return content


def _read(path: Path, columns: Sequence[str], last: int) -> list[dict[str, str]]:
    """The rows up to the step `last`."""
    if not path.is_file():
        raise UserError(f"{path}: missing, but the run has a checkpoint; delete the folder and run it again")
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        if rows and list(rows[0]) != list(columns):
            raise ValueError(f"its columns are {', '.join(map(str, rows[0]))}")
        return [row for row in rows if int(row["step"]) <= last]
    except ValueError as error:
        raise damaged(path, str(error)) from error
