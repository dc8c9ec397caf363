"""Every run below a folder as the page shows it: its state, numbers, configuration and curve."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shine_exp.figures.looks import styles
from shine_exp.figures.names import changed, place_title
from shine_exp.figures.page.curve import RunCurve, curve_of
from shine_exp.runs.command_line import command_of
from shine_exp.runs.run import CONFIG, Run
from shine_exp.runs.state import RunState, find_states
from shine_exp.runs.telling import told

NUMBERS = {"time": "time, s", "outer_loss": "outer loss", "test_loss": "held-out loss"}


@dataclass(frozen=True)
class Entry:
    """A run, or what is left of one whose files are damaged: then all but the first three lack.

    `numbers` are those of its last row, by `NUMBERS`; what it has not measured is None.
    """

    folder: str
    state: str
    told: str
    place: str = ""
    method: str = ""
    changes: tuple[str, ...] = ()
    seed: int | None = None
    command: str = ""
    config: str = ""
    made: str = ""
    curve: RunCurve | None = None
    numbers: Mapping[str, float | None] = field(default_factory=dict)


def entries(root: Path, runs: Iterable[Run]) -> Iterator[Entry]:
    """An entry for each run below `root`; `runs` are those whose traces can be used."""
    usable = {run.folder: run for run in runs}
    for state in find_states(root):
        yield _entry(root, state, usable.get(state.folder))


def _entry(root: Path, state: RunState, run: Run | None) -> Entry:
    folder = str(state.folder.relative_to(root))
    if run is None:
        return Entry(folder, state.state, told(state))
    method = run.info["choices"]["method"]
    return Entry(
        folder,
        state.state,
        told(state),
        place_title(run),
        styles([method])[method].name,
        tuple(changed(key, value) for key, value in run.info["differs"].items()),
        run.info["seed"],
        command_of(root, run.info),
        _config(run.folder),
        _made(run.info),
        curve_of(run),
        {name: _last(run, name) for name in NUMBERS},
    )


def _last(run: Run, column: str) -> float | None:
    if column not in run.trace or run.trace.empty:
        return None
    return float(run.trace[column].iloc[-1])


def _config(folder: Path) -> str:
    """The text of config.yaml, whatever it is."""
    try:
        return (folder / CONFIG).read_text(errors="replace")
    except OSError as error:
        return f"{CONFIG}: {error.strerror}"


def _made(info: Mapping[str, Any]) -> str:
    """Where and by which version, as far as it was recorded."""
    versions = info.get("versions")
    version = versions.get("shine-exp") if isinstance(versions, dict) else None
    commit = str(info.get("commit") or "")[:10]
    parts = {
        "shine-exp": version,
        "commit": commit,
        "host": info.get("host"),
        "device": info.get("device"),
        "threads": info.get("threads"),
    }
    return ", ".join(f"{name} {value}" for name, value in parts.items() if value)
