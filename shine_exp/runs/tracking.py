"""What shows a run while it goes on, beside its trace. The trace alone is ever read again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from shine_exp.loop import Row


class Log(Protocol):
    """What a tracker keeps of one run."""

    def add(self, rows: Sequence[Row]) -> None:
        """The rows of one step, as they go into the trace."""
        ...

    def close(self) -> None: ...


class Tracker(Protocol):
    """Follows runs; changes none of their numbers."""

    def check(self) -> None:
        """Raises `UserError` where it cannot work on this machine."""
        ...

    def open(self, folder: Path, trace: bytes) -> Log:
        """The log of the run in a folder, whose trace.csv holds `trace` by now.

        What it lacks of that, as where an earlier start had no tracker or was killed, it adds.
        """
        ...
