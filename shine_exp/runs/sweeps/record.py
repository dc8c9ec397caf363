"""A sweep on disk: RESULTS/.launcher/NAME.json says which runs it has, NAME.txt how it ended."""

import hashlib
import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from shine_exp import durable
from shine_exp.runs.run import INFO, damaged
from shine_exp.runs.state import RunState, State
from shine_exp.runs.sweeps.job import LOG, REFUSED

SWEEPS = ".launcher"  # in the results folder
# Of overrides: the same run, made otherwise
WHERE_AND_HOW = ("runtime.", "tracker=", "hydra.", "hydra/")


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep: its overrides, and its folder below the results folder.

    The folder is None where the run is refused for what it is.
    """

    overrides: Sequence[str]
    folder: str | None


@dataclass(frozen=True)
class Sweep:
    """A sweep by its command: the words after `shine-run`, of which `options` go with each run."""

    name: str
    arguments: Sequence[str]
    options: Sequence[str]
    runs: Sequence[SweepRun]

    @property
    def command(self) -> str:
        return shlex.join(["shine-run", *self.arguments])

    def command_of(self, run: SweepRun) -> str:
        """Makes one run alone."""
        return shlex.join(["shine-run", *self.options, *run.overrides])


def sweep_name(title: str, runs: Sequence[Sequence[str]]) -> str:
    """The title and a digest of the runs, wherever and however they are made."""
    which = [[one for one in run if not one.startswith(WHERE_AND_HOW)] for run in runs]
    return f"{title}-{hashlib.sha256(json.dumps(sorted(which)).encode()).hexdigest()[:8]}"


def write_record(root: Path, sweep: Sweep) -> None:
    """Say which runs the sweep has."""
    _write(root / SWEEPS / f"{sweep.name}.json", json.dumps(asdict(sweep)))


def write_end(root: Path, sweep: Sweep, told: str) -> Path:
    """Say how the sweep ended; the file."""
    path = root / SWEEPS / f"{sweep.name}.txt"
    _write(path, told)
    return path


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.write(path, f"{text}\n".encode())


def load_sweeps(root: Path) -> Iterator[Sweep]:
    """The sweeps of a results folder, by name. Raises `UserError` for a damaged record."""
    for path in sorted((root / SWEEPS).glob("*.json")):
        try:
            content = json.loads(durable.read(path))
            runs = [SweepRun(**run) for run in content.pop("runs")]
            yield Sweep(**content, runs=runs)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise damaged(path, str(error)) from error


def job_folder(root: Path, run: SweepRun, place: int) -> Path:
    """Where the job of a run keeps its log; one that is nowhere else known has its place."""
    return root / SWEEPS / (run.folder or f"refused/{place}")


def with_job(run: RunState, job: Path) -> RunState:
    """A run's state with what its job has left, which knows of more than the run's own folder.

    A job that was refused since says why. A run that it did not begin, or that is another one than
    the folder holds by now, is `REFUSED`.
    """
    log = run.log or (str(job / LOG) if (job / LOG).is_file() else None)
    why = _refusal_since(run, job / REFUSED)
    if why is None:
        return replace(run, log=log)
    is_none_of_its = run.state is State.MISSING or run.state.is_end
    state = State.REFUSED if is_none_of_its else run.state
    return replace(run, state=state, reason=why, log=log)


def _refusal_since(run: RunState, path: Path) -> str | None:
    """Why the job was refused, unless the run has been at work later."""
    try:
        refused, why = path.stat().st_mtime_ns, durable.read(path).decode()
    except (OSError, UnicodeDecodeError):
        return None
    info = run.folder / INFO
    return why if not info.exists() or info.stat().st_mtime_ns <= refused else None
