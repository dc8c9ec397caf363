"""Where the runs, sweeps and figures of a results folder stand, as data, as text and as JSON."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from shine_exp.errors import UserError
from shine_exp.runs.command_line import command_of, elsewhere
from shine_exp.runs.state import RunState, State, find_states
from shine_exp.runs.sweeps.record import SWEEPS, Sweep, job_folder, load_sweeps, with_job
from shine_exp.runs.telling import counted, told
from shine_exp.status.figures import Figure, begun_figures, key_of

SHOWN = [state for state in State if state is not State.DONE]  # with a line for each run


@dataclass(frozen=True)
class Member:
    """A run of a sweep or figure: where it stands, and the command that makes it."""

    of: str
    run: RunState
    command: str


@dataclass(frozen=True)
class Part:
    """A sweep, or a figure of which there are runs; its command makes all that is not there."""

    name: str
    command: str
    members: Sequence[Member]


@dataclass(frozen=True)
class Report:
    """The runs below `root`, and the sweeps and figures that they belong to."""

    root: Path
    runs: Sequence[RunState]
    sweeps: Sequence[Part]
    figures: Sequence[Part]

    @property
    def missing(self) -> list[Member]:
        members = [one for part in (*self.sweeps, *self.figures) for one in part.members]
        return [one for one in members if one.run.state in (State.MISSING, State.REFUSED)]


def gather(root: Path) -> Report:
    """Raises `UserError` where there is no such folder, or a sweep's record is damaged."""
    if not root.is_dir():
        raise UserError(f"no such results folder: {root}")
    runs = list(find_states(root))
    figures = begun_figures([run.info for run in runs if run.info])
    return Report(
        root,
        runs,
        [_of_sweep(root, sweep, runs) for sweep in load_sweeps(root)],
        [_of_figure(root, figure, runs) for figure in figures],
    )


def _of_sweep(root: Path, sweep: Sweep, runs: Sequence[RunState]) -> Part:
    there = {run.folder: run for run in runs}
    members = []
    for place, one in enumerate(sweep.runs):
        folder = root / (one.folder or SWEEPS)
        run = there.get(folder, RunState(folder, State.MISSING, {}))
        told_of = with_job(run, job_folder(root, one, place))
        members.append(Member(sweep.name, told_of, sweep.command_of(one)))
    return Part(sweep.name, sweep.command, members)


def _of_figure(root: Path, figure: Figure, runs: Sequence[RunState]) -> Part:
    there = {
        key_of(run.info["choices"], run.info["differs"], run.info["seed"]): run
        for run in runs
        if run.info
    }
    command = f"{figure.command}{elsewhere(root)}"
    members = []
    for one in figure.runs:
        missing = RunState(root / one.folder, State.MISSING, {})
        run = there.get(key_of(one.choices, one.differs, one.seed), missing)
        members.append(Member(figure.name, run, command))
    return Part(figure.name, command, members)


def as_json(report: Report) -> str:
    runs = [
        {
            "folder": str(run.folder),
            "state": run.state,
            "step": run.step,
            "n_steps": run.n_steps,
            "age": run.age,
            "left": run.left,
            "reason": run.reason,
            "log": run.log,
            **{key: run.last_start.get(key) for key in ("host", "pid", "job_id")},
        }
        for run in report.runs
    ]
    missing = [
        {
            "of": one.of,
            "folder": str(one.run.folder),
            "command": one.command,
            "reason": one.run.reason,
        }
        for one in report.missing
    ]
    return json.dumps({"runs": runs, "missing": missing}, indent=2)


def as_text(report: Report) -> str:
    """Counts; the runs of each state, those that are done by their seeds; sweeps; figures."""
    lines = [f"{report.root}: {counted(run.state for run in report.runs)}"]
    for state in SHOWN:
        runs = [run for run in report.runs if run.state is state]
        if runs:
            lines += ["", state, *(f"  {name_of(report, run)}  {told(run)}" for run in runs)]
    if done := [run.folder for run in report.runs if run.state is State.DONE]:
        lines += ["", State.DONE, *(f"  {line}" for line in by_parent(report.root, done))]
    for title, parts in (("sweeps", report.sweeps), ("figures", report.figures)):
        if parts:
            lines += ["", title, *summaries(parts)]
    return "\n".join(lines)


def name_of(report: Report, run: RunState) -> str:
    return str(run.folder.relative_to(report.root))


def by_parent(root: Path, folders: Iterable[Path]) -> Iterator[str]:
    """A line for each method of each problem, with the folders of its runs."""
    groups: dict[Path, list[str]] = {}
    for folder in folders:
        groups.setdefault(folder.parent.relative_to(root), []).append(folder.name)
    for parent, names in groups.items():
        yield f"{parent}  {' '.join(_shortened(names))}"


def _shortened(names: Iterable[str]) -> Iterator[str]:
    """Names of folders, seeds in a row as one: seed=0–9."""
    plain = sorted(int(name[5:]) for name in names if re.fullmatch(r"seed=\d+", name))
    # Of seeds in a row, seed minus place is the same.
    for _, group in groupby(enumerate(plain), lambda pair: pair[1] - pair[0]):
        first, *more = (seed for _, seed in group)
        yield f"seed={first}–{more[-1]}" if more else f"seed={first}"
    yield from sorted(name for name in names if not re.fullmatch(r"seed=\d+", name))


def summaries(parts: Sequence[Part]) -> Iterator[str]:
    """A line for each sweep or figure with its counts, and one with what makes the rest."""
    for part in parts:
        states = [member.run.state for member in part.members]
        yield f"  {part.name}  {counted(states)}"
        if not all(state.is_end for state in states):
            yield f"    {part.command}"


def commands_of_failed(report: Report) -> list[str]:
    """A command for each run that failed, which makes that one alone."""
    known = {one.run.folder: one.command for part in report.sweeps for one in part.members}
    failed = [run for run in report.runs if run.state is State.FAILED]
    return [known.get(run.folder) or command_of(report.root, run.info) for run in failed]
