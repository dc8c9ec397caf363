"""What has become of the runs of a sweep, read from their folders alone.

A launcher may have lost its process, a scheduler may call it completed, and another sweep may have
made the run.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shine_exp.errors import UserError
from shine_exp.runs.state import RunState, State, state_of
from shine_exp.runs.sweeps.record import SWEEPS, Sweep, job_folder, with_job
from shine_exp.runs.telling import counted, told

SOME_REFUSED = "the sweep is done, but for the runs that were refused, as is said above"


@dataclass(frozen=True)
class Outcome:
    """Of a sweep whose results lie in `root`; its runs are known by their places."""

    root: Path
    sweep: Sweep

    def name(self, place: int) -> str:
        """What a run is called: by its folder, or by its overrides."""
        run = self.sweep.runs[place]
        return run.folder or " ".join(run.overrides)

    def job(self, place: int) -> Path:
        """Where a run's job keeps its log."""
        return job_folder(self.root, self.sweep.runs[place], place)

    def state(self, place: int) -> RunState:
        folder = self.sweep.runs[place].folder or f"{SWEEPS}/nowhere"
        return with_job(state_of(self.root / folder), self.job(place))

    def states(self) -> list[RunState]:
        return [self.state(place) for place in range(len(self.sweep.runs))]

    def table(self, states: Sequence[RunState]) -> str:
        """A line for each run, and how many there are of each state."""
        names = [self.name(place) for place in range(len(states))]
        width = max(map(len, names), default=0)
        lines = [
            f"{name:<{width}}  {run.state:<11}  {told(run)}".rstrip()
            for name, run in zip(names, states, strict=True)
        ]
        return "\n".join([*lines, counted(run.state for run in states)])


def judge(states: Sequence[RunState]) -> None:
    """Raises `UserError` where runs were refused, `SystemExit` with 1 where one is not done."""
    bad = [run for run in states if not run.state.is_end]
    if bad and all(run.state is State.REFUSED for run in bad):
        raise UserError(SOME_REFUSED)
    if bad:
        sys.exit(1)
