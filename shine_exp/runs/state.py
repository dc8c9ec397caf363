"""Where a run stands: by run.json, its lock and the last row of its trace. Looking changes nothing.

PyTorch is not imported for it.
"""

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from shine_exp.errors import UserError, one_line
from shine_exp.runs.run import CONFIG, INFO, LOCK, TRACE, damaged, load_run

# Of the samples of a network. A batch has tens or hundreds of them: below one in a hundred, most
# batches have none, and what one sample's gradient lacks is far below the noise of the batch.
WORTH_A_WORD = 0.01
LAST_ROW = 4096  # bytes at the end of a trace, which hold a whole row


class State(StrEnum):
    """How a run stands. `UNSOLVED` is done, but with solves that missed their tolerance."""

    DONE = "done"
    UNSOLVED = "unsolved"
    DIVERGED = "diverged"
    RUNNING = "running"  # a process holds its lock
    DEAD = "dead"  # it says that it is running, and no process holds its lock
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    DAMAGED = "damaged"  # run.json cannot be read
    REFUSED = "refused"  # of a sweep: nothing has begun, for a reason that was told
    MISSING = "missing"  # nothing has begun

    @property
    def is_end(self) -> bool:
        """Whether no command takes the run any further."""
        return self in (State.DONE, State.UNSOLVED, State.DIVERGED)


@dataclass(frozen=True)
class RunState:
    """Where the run in a folder stands.

    `info` is run.json, empty where there is none. `step` of `n_steps` outer steps are done; `age`
    are the seconds since the last row of the trace, and `left` those to the end at the pace since
    this start, both of runs that are at work. `reason` says in a line why the state is what it is,
    and `log` is the file that the run's process printed its errors into. What nobody knows is None.
    """

    folder: Path
    state: State
    info: Mapping[str, Any]
    step: int | None = None
    n_steps: int | None = None
    age: float | None = None
    left: float | None = None
    reason: str | None = None
    log: str | None = None

    @property
    def last_start(self) -> Mapping[str, Any]:
        return _last_start(self.info)

    @property
    def place(self) -> str:
        """Which process is, or was, at work."""
        start = self.last_start
        job = start.get("job_id")
        process = f"job {job}" if job is not None else f"pid {start.get('pid')}"
        return f"{start.get('host')}, {process}" if start.get("host") else "unknown"


def find_states(root: Path) -> Iterator[RunState]:
    """The states of all runs below a folder, in path order."""
    for folder, below, files in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith("."))
        if CONFIG in files or (INFO in files and TRACE in files):
            yield state_of(Path(folder))


def state_of(folder: Path) -> RunState:
    """Where the run in a folder stands, which need not be there."""
    if not (folder / INFO).is_file():
        # Its process is between config.yaml and run.json, or did not come so far.
        begun = (folder / CONFIG).is_file()
        state = State.RUNNING if is_locked(folder) else State.DEAD if begun else State.MISSING
        return RunState(folder, state, {}, step=0 if begun else None)
    try:
        return _stated(folder, load_run(folder).info)
    except UserError as error:
        return RunState(folder, State.DAMAGED, {}, reason=str(error))
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # of another shape than ours
        reason = str(damaged(folder / INFO, one_line(error)))
        return RunState(folder, State.DAMAGED, {}, reason=reason)


def _stated(folder: Path, info: Mapping[str, Any]) -> RunState:
    if not _is_known(info):
        raise damaged(folder / INFO, "choices, differs or seed is missing")
    start = _last_start(info)
    unsolved = worth_a_word(info.get("unsolved"), info.get("solves"))
    match info.get("status"):
        case "done":
            state = State.UNSOLVED if unsolved else State.DONE
        case "running":
            state = State.RUNNING if is_locked(folder) else State.DEAD
        case "interrupted" | "failed" as status:
            # Between the lock and run.json a process that goes on reads its data.
            state = State.RUNNING if is_locked(folder) else State(status)
        case "diverged":
            state = State.DIVERGED
        case other:
            raise damaged(folder / INFO, f"its status is {other}")
    at_work = state in (State.RUNNING, State.DEAD)
    row = _last_row(folder) if at_work else None
    step = row.step if row else start.get("after_step" if at_work else "step")
    n_steps = info.get("n_steps")
    return RunState(
        folder,
        state,
        info,
        step=step,
        n_steps=n_steps,
        age=max(0.0, time.time() - row.written) if row else None,
        left=_left(start, row, n_steps) if state is State.RUNNING else None,
        reason=info.get("reason") or _reason(state, unsolved),
        log=start.get("log"),
    )


def _is_known(info: Mapping[str, Any]) -> bool:
    """Whether run.json says which run it is."""
    choices, differs = info.get("choices"), info.get("differs")
    return (
        isinstance(choices, dict)
        and {"problem", "data", "method"} <= choices.keys()
        and isinstance(differs, dict)
        and isinstance(info.get("seed"), int)
    )


def worth_a_word(unsolved: Any, solves: Any) -> dict[str, int]:
    """The kinds of solves of which so many missed their tolerance that the run must say so.

    `solves` are the totals, which only networks count. Of inner minima each one counts.
    """
    totals = solves or {}
    return {k: n for k, n in (unsolved or {}).items() if n > WORTH_A_WORD * totals.get(k, 0)}


def is_locked(folder: Path) -> bool:
    """Whether a process holds the folder's lock.

    Asked by a shared lock for a moment, which a run that starts just then outwaits.
    """
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


@dataclass(frozen=True)
class _Row:
    """The last whole row of a trace: its step, and when it was written, in seconds."""

    step: int
    written: float


def _last_row(folder: Path) -> _Row | None:
    try:
        with (folder / TRACE).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - LAST_ROW))
            *_, row, _ = file.read().split(b"\n")
            return _Row(int(row.split(b",")[0]), os.fstat(file.fileno()).st_mtime)
    except (OSError, ValueError):  # no trace, or no row yet
        return None


def _left(start: Mapping[str, Any], row: _Row | None, n_steps: int | None) -> float | None:
    """Seconds to the end, if all steps take what those of this start took."""
    if row is None or n_steps is None or row.step <= start["after_step"]:
        return None
    began = datetime.fromisoformat(start["time"]).timestamp()
    pace: float = max(0.0, row.written - began) / (row.step - start["after_step"])
    return max(0.0, (n_steps - row.step) * pace - (time.time() - row.written))


def _reason(state: State, unsolved: Mapping[str, int]) -> str | None:
    if state is State.UNSOLVED:
        counts = " and ".join(f"{n} {kind}" for kind, n in unsolved.items())
        return f"{counts} solves missed their tolerance"
    if state is State.DEAD:
        return "its process has gone without a word"
    return None


def _last_start(info: Mapping[str, Any]) -> Mapping[str, Any]:
    """The last entry of `starts`, which runs of earlier versions lack."""
    starts = info.get("starts")
    last = starts[-1] if isinstance(starts, list) and starts else {}
    return last if isinstance(last, dict) else {}
