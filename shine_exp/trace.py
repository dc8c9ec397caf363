"""What a run leaves on disk for the figures: trace.csv, one row per outer step, and run.json."""

import csv
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from shine_exp.errors import UserError

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
        rows = [] if keep is None else [row for row in _read(path) if int(row["step"]) <= keep]
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
        info: dict[str, Any] = json.loads((folder / INFO).read_text())
    except ValueError as error:
        raise UserError(f"{folder / INFO}: damaged; delete the folder and run it again") from error
    return info


@dataclass(frozen=True)
class Run:
    """One run on disk.

    `info` is run.json: `status` ("running", "done", "diverged" or "interrupted"), `choices` (the option chosen in
    each configuration group: problem, data, solver, outer, method), `seed`, `differs` (dotted keys whose values are not
    the defaults of these choices), sizes of the sets (`n_train`, `n_outer`, `n_test`), versions, host.
    """

    folder: Path
    info: dict[str, Any]
    config: dict[str, Any]
    trace: pd.DataFrame

    @property
    def label(self) -> str:
        """The method, and what was changed from its defaults."""
        changed = ", ".join(f"{key}={value}" for key, value in self.info["differs"].items())
        return f"{self.info['choices']['method']} ({changed})" if changed else str(self.info["choices"]["method"])


def load_runs(root: Path) -> list[Run]:
    """Every run below a folder that has a configuration, a run.json and at least one row of trace, in path order."""
    runs = []
    for path in sorted(root.rglob(INFO)):
        folder = path.parent
        if not (folder / CONFIG).is_file() or not (folder / TRACE).is_file():
            continue
        trace = pd.read_csv(folder / TRACE)
        if len(trace):
            config = yaml.safe_load((folder / CONFIG).read_text())
            runs.append(Run(folder, json.loads(path.read_text()), config, trace))
    return runs


def _read(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise UserError(f"{path}: missing, but the run has a checkpoint; delete the folder and run it again")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
