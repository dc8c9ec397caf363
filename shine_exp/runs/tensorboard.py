"""Scalars for TensorBoard: every number of the trace, by its column, in the run's own folder.

    tensorboard --logdir results

Each step is there once, whatever became of the process: a step that is there already is not written
again, though a run that goes on from its checkpoint makes it again, with the same numbers.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any

from pydantic import PositiveInt

from shine_exp.errors import UserError
from shine_exp.loop import Row

EVENTS = "events.out.tfevents.*"


@dataclass(frozen=True)
class TensorBoard:
    """Writes event files; `flush_every` is in seconds."""

    flush_every: PositiveInt

    def check(self) -> None:
        """Raises `UserError` where the package is not installed."""
        if find_spec("tensorboard") is None:
            raise UserError(
                "tracker=tensorboard: the package tensorboard is not installed; "
                "pip install 'shine-exp[tensorboard]'"
            )

    def open(self, folder: Path, trace: bytes) -> "EventLog":
        from torch.utils.tensorboard.writer import FileWriter  # only where it is asked for

        rows = list(csv.DictReader(io.StringIO(trace.decode())))
        if not rows:  # the run begins, perhaps anew
            for path in folder.glob(EVENTS):
                path.unlink()
        last = last_step(folder)
        log = EventLog(FileWriter(str(folder), flush_secs=self.flush_every), last)
        for _, of_step in groupby(rows, lambda row: row["step"]):
            log.add(list(of_step))
        return log


class EventLog:
    """Adds steps after `last`, the last that is there."""

    def __init__(self, writer: Any, last: int) -> None:
        self.writer = writer
        self.last = last

    def add(self, rows: Sequence[Row]) -> None:
        """A point for each number. A study has several rows of one step, which are no curve."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        if len(rows) != 1 or int(rows[0]["step"]) <= self.last:
            return
        self.last = int(rows[0]["step"])
        numbers = {column: _number(value) for column, value in rows[0].items() if column != "step"}
        values = [
            Summary.Value(tag=column, simple_value=number)
            for column, number in numbers.items()
            if number is not None
        ]
        # As one event, which is there or not: a killed process leaves no half of a step.
        self.writer.add_summary(Summary(value=values), self.last)

    def close(self) -> None:
        self.writer.close()


def last_step(folder: Path) -> int:
    """The last step in the event files of a folder, −1 without any; a torn end does not count."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    events = (
        event for path in folder.glob(EVENTS) for event in LegacyEventFileLoader(str(path)).Load()
    )
    return max((event.step for event in events if event.HasField("summary")), default=-1)


def _number(value: float | int | str) -> float | None:
    """None for a text, and for what a step has not measured."""
    try:
        return float(value)
    except ValueError:
        return None
