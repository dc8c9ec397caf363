"""A loop at work in its folder: its steps, clock, trace and checkpoints, and how it ends."""

import contextlib
import io
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from shine_exp import durable
from shine_exp.acceleration import acceleration
from shine_exp.loop import LoopState, OuterLoop, Row
from shine_exp.processes import processes
from shine_exp.runs.checkpoint import Checkpoint, save
from shine_exp.runs.history import History
from shine_exp.runs.identity import RunIdentity
from shine_exp.runs.machine import refusal
from shine_exp.runs.progress import Progress, tell
from shine_exp.runs.resume import resume, resumed
from shine_exp.runs.run import CHECKPOINT, SOLUTION
from shine_exp.runs.runtime import Runtime
from shine_exp.runs.signals import continuations, deferred
from shine_exp.runs.state import worth_a_word
from shine_exp.runs.trace import Stopwatch, TraceWriter, fingerprint
from shine_exp.runs.tracking import Log

# What a solve is called: in a problem with an inner minimum, and in a network.
OF_MINIMA = {"inner": "inner problems", "backward": "backward solves"}
OF_NETWORKS = {
    "inner": "samples in the forward pass",
    "backward": "samples in the backward pass",
}


@dataclass(frozen=True)
class Recorded:
    """A good step whose rows are all in the trace: what a checkpoint may stand for."""

    state: LoopState
    elapsed: float
    trace_bytes: int


class Session:
    """One run of a loop on a problem, from its checkpoint if there is one; it keeps what it found.

    Interrupts wait for the end of the step in progress. Whatever ends a run, its rows stay in the
    trace and its last good step in the checkpoint, unless an error has left that step half changed
    in place: then it is the one before that was saved. `read`, the data and the code, goes into
    run.json.
    `verbose` prints how the run begins and ends, and a progress bar where there is a terminal.
    """

    def __init__(
        self,
        loop: OuterLoop[Any, Any],
        problem: Any,
        identity: RunIdentity,
        folder: Path,
        runtime: Runtime,
        read: Mapping[str, Any] | None = None,
        verbose: bool = True,
    ) -> None:
        self.loop = loop
        self.problem = problem
        self.identity = identity
        self.folder = folder
        self.runtime = runtime
        self.read = read or {}
        self.verbose = verbose
        self.state: LoopState | None = None
        self.writer: TraceWriter | None = None
        self.log: Log | None = None
        self.recorded: Recorded | None = None
        self.rows: list[Row] = []
        self.reason: str | None = None  # why it ends before its last step, if not by a signal

    def run(self, deadline: float = math.inf) -> None:
        """To the end, or to an interrupt: KeyboardInterrupt, once all is saved.

        The `deadline`, by the monotonic clock, interrupts it too, but not before one step is done:
        a run whose time is too short for its start still comes to its end, by enough commands.
        Raises `UserError` for a checkpoint of another run, and for what the machine refuses.
        """
        self.deadline = deadline
        with deferred() as self.interrupts, continuations() as stops:
            durable.clear(self.folder)
            saved = self._restore()  # a refusal leaves everything as it is
            self.clock = Stopwatch(saved.elapsed if saved else 0.0, stops)
            self.history = History(self.folder, self._about())
            self.history.start(
                self.runtime.device, self.runtime.threads, self._left(), acceleration()
            )
            try:
                status = self._work(saved)
                if status != "interrupted":
                    processes().any(True)  # the others take no further step
                self._finish(status)
                processes().by_first(lambda: status)  # and end, now that all is saved
            except Exception as error:
                self._break_off("failed", error)
                if refused := refusal(error, self.folder, self._step):
                    raise refused from error
                raise
            except BaseException:
                self._break_off("interrupted")
                raise
            finally:
                if self.writer is not None:
                    self.writer.close()
                if self.log is not None:
                    self.log.close()
            if status != "interrupted":
                why = f": {self.reason}" if self.reason else ""
                self._tell(f"{self.folder}: {status} after {self.clock.elapsed:.2f} s{why}")
                self._tell(*last_numbers(self.rows), *getattr(self.state, "conclusions", ()))
                self._tell(*missed(self.problem.seeks, self._unsolved, self._solves))
        if status == "interrupted":  # not by a signal here, which has been raised by now
            self._tell(f"{self.folder}: {self.reason}, after step {self._step} of {self._n_steps}")
            raise KeyboardInterrupt

    def _restore(self) -> Checkpoint | None:
        there = resume(self.loop, self.problem, self.identity, self.folder, self.runtime.device)
        if there is None:
            return None
        self.state, saved = there
        self._tell(*resumed(self.folder, self.state, saved))
        return saved

    def _tell(self, *lines: str) -> None:
        if self.verbose:
            tell(lines)

    def _work(self, saved: Checkpoint | None) -> str:
        """All steps that are left, and how that ended."""
        if self.state is None:
            seed = self.identity.seed
            self.state = processes().agreed(lambda: self.loop.init(self.problem, seed))
        columns = ("step", "time", *self.loop.columns(self.problem))
        self.writer = TraceWriter(self.folder, columns, saved.trace.encode() if saved else None)
        if self.runtime.tracker is not None:
            self.log = self.runtime.tracker.open(self.folder, bytes(self.writer.content))
        if saved:
            self.recorded = Recorded(self.state, saved.elapsed, len(self.writer.content))
        elif not self._record():
            return "diverged"
        saved_at = time.monotonic()
        steps = range(self.state.step, self._n_steps)
        progress = Progress(str(self.identity.folder), steps, self.verbose)
        for step in progress:
            if self._must_end(has_moved=step > steps.start):
                return "interrupted"
            self._advance()
            if not self._record():
                return "diverged"
            progress.after(self.state.step, self.loop.progress(self.state))
            if time.monotonic() - saved_at >= self.runtime.checkpoint_every:
                self._save()
                saved_at = time.monotonic()
        return "done"

    def _must_end(self, has_moved: bool) -> bool:
        """Whether the run ends before its next step, in all of its processes."""
        is_late = has_moved and time.monotonic() >= self.deadline
        ends = processes().any(is_late or bool(self.interrupts))
        if ends and not self.interrupts:
            self.reason = (
                f"the {self.runtime.max_minutes:g} min of runtime.max_minutes are over"
                if is_late
                else "another process of this run was interrupted"
            )
        return ends

    def _advance(self) -> None:
        if self.loop.changes_in_place:
            self.recorded = None  # until the step is whole
        with self.clock.running():
            self.state = self.loop.step(self.problem, self.state)

    def _record(self) -> bool:
        """Append the rows of this step, if it has any; False where the method has diverged."""
        assert self.writer is not None
        measured = self.loop.measure(self.problem, self.state)
        rows = [{"time": self.clock.elapsed, **row} for row in measured]
        for row in rows:
            self.writer.append(row)
        if self.log is not None and rows:
            self.log.add(rows)
        self.rows = measured or self.rows
        self.recorded = None
        assert self.state is not None
        self.reason = self.loop.diverged(self.state)
        if self.reason:
            return False
        self.recorded = Recorded(self.state, self.clock.elapsed, len(self.writer.content))
        return True

    def _save(self) -> None:
        """A checkpoint of the last good step.

        No checkpoint is durable before the rows that it stands for, and it holds them besides.
        """
        if self.recorded is None or self.writer is None:
            return
        self.writer.sync()
        trace = self.writer.content[: self.recorded.trace_bytes].decode()
        state = self.recorded.state.state_dict()
        save(self.folder, Checkpoint(self.identity.config, state, trace, self.recorded.elapsed))

    def _finish(self, status: str) -> None:
        """Say how the run ended, once all that this stands for is durable."""
        assert self.writer is not None
        self.writer.sync()
        if status == "interrupted":
            self._save()
        if status == "done":
            self._keep_solution()
        self.history.end(status, self._left(), reason=self.reason or None)
        if status == "done":
            (self.folder / CHECKPOINT).unlink(missing_ok=True)

    def _keep_solution(self) -> None:
        found = self.loop.solution(self.problem, self.state)
        kept = {name: found[name] for name in self.runtime.keep if name in found}
        if kept:
            buffer = io.BytesIO()
            torch.save(kept, buffer)
            durable.write(self.folder / SOLUTION, buffer.getvalue())

    def _break_off(self, status: str, error: Exception | None = None) -> None:
        """Keep what an error allows: the error is what is told of, not what it still prevents."""
        # Both are tried: on a full disk there may be room for the smaller one.
        with contextlib.suppress(Exception):
            self._save()
        with contextlib.suppress(Exception):
            self.history.end(status, self._left(), error)

    @property
    def _step(self) -> int:
        return 0 if self.state is None else self.state.step

    @property
    def _n_steps(self) -> int:
        return self.loop.length(self.problem)

    @property
    def _unsolved(self) -> dict[str, int]:
        return {"inner": 0, "backward": 0} if self.state is None else self.state.unsolved

    @property
    def _solves(self) -> Mapping[str, int]:
        """How many solves of each kind there were, where the loop counts them."""
        return getattr(self.state, "solves", {})

    def _about(self) -> dict[str, Any]:
        """What run.json says of the run, whoever starts it."""
        identity = self.identity
        about: dict[str, Any] = {
            "choices": identity.choices,
            "seed": identity.seed,
            "differs": identity.differs,
            "n_steps": self._n_steps,
        }
        return {**about, **self.problem.facts, **self.read}

    def _left(self) -> dict[str, Any]:
        """What run.json says of what the run has left so far."""
        left: dict[str, Any] = {"step": self._step, "unsolved": self._unsolved}
        if self._solves:
            left["solves"] = dict(self._solves)
        if self.clock.stopped:
            left["seconds_stopped"] = self.clock.stopped
        if self.writer is not None:
            left["trace"] = fingerprint(bytes(self.writer.content))
        return left


def last_numbers(rows: list[Row]) -> list[str]:
    """The numbers of the last row, a line each, where the last step had one row."""
    if len(rows) != 1:
        return []
    numbers = {name: value for name, value in rows[0].items() if not isinstance(value, str)}
    return [f"  {name:<18}{value:>12.6g}" for name, value in numbers.items()]


def missed(seeks: str, unsolved: Mapping[str, int], solves: Mapping[str, int]) -> list[str]:
    """One line on the solves that missed their tolerance; none where that needs no word.

    `solves` are the totals, as far as they are known.
    """
    told = worth_a_word(unsolved, solves)
    if not told:
        return []
    of_network = seeks == "root"
    names = OF_NETWORKS if of_network else OF_MINIMA
    counts = [f"{_share(n, solves.get(kind))} {names[kind]}" for kind, n in told.items()]
    columns = ", ".join(f"unsolved_{kind}" for kind in told)
    where = f"(trace column{'s' * (len(told) > 1)} {columns})"
    if of_network:
        advice = "what followed went on from where these solves had come; more steps solve more"
    else:
        advice = (
            "the numbers there may be off: "
            "scaled data, float64, more steps or another solver may solve them"
        )
    return [f"  {' and '.join(counts)} were not solved to their tolerance {where}; {advice}"]


def _share(n: int, total: int | None) -> str:
    return f"{n} of its" if total is None else f"{n} of {total} ({100 * n / total:.0f} %)"
