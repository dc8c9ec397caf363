"""Writing of a run's trace: trace.csv, a row per outer step, and the clock of its times."""

import csv
import hashlib
import io
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shine_exp import durable
from shine_exp.errors import one_line
from shine_exp.loop import Row
from shine_exp.runs.run import TRACE, damaged


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
        """Write one row; a column that it lacks stays empty.

        Raises `ValueError` for one that the trace lacks.
        """
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
    """What run.json keeps of a trace: the number of rows, and a SHA-256.

    It is the same whatever ends the lines, "\\r\\n" or "\\n".
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
