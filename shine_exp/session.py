"""A loop at work in its folder: steps on the clock, rows of the trace, checkpoints, and how it ends."""

import contextlib
import csv
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor
from tqdm import tqdm

from shine_exp import durable
from shine_exp.checkpoint import CHECKPOINT, Checkpoint, load, save, unusable
from shine_exp.errors import UserError, one_line
from shine_exp.history import History
from shine_exp.identity import Identity
from shine_exp.outer.loop import LoopState, OuterLoop
from shine_exp.signals import continuations, deferred
from shine_exp.trace import TRACE, Row, Stopwatch, TraceWriter, fingerprint

OUT_OF_MEMORY = re.compile("out of memory|DefaultCPUAllocator|ALLOC_FAILED")  # of RuntimeErrors of PyTorch
UNSOLVED = {"inner": "inner problems", "backward": "backward solves"}


@dataclass(frozen=True)
class Runtime:
    """Where and how to run: the folder of all runs, PyTorch's device and threads, seconds between checkpoints."""

    results: str
    device: str
    threads: PositiveInt
    checkpoint_every: NonNegativeFloat


@dataclass(frozen=True)
class Recorded:
    """A good step whose rows are all in the trace: what a checkpoint may stand for."""

    state: LoopState
    elapsed: float
    trace_bytes: int


class Session:
    """One run of a loop on a problem, from its checkpoint if there is one. `data` tells run.json what was read.

    Interrupts wait for the end of a step in progress. Whatever ends a run, what it has computed is kept: its rows are
    in the trace, and its last good step is in the checkpoint, unless an error has left it half changed in place.
    """

    def __init__(
        self,
        loop: OuterLoop[Any, Any],
        problem: Any,
        identity: Identity,
        folder: Path,
        runtime: Runtime,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        self.loop, self.problem, self.identity, self.folder, self.runtime = loop, problem, identity, folder, runtime
        self.data = data
        self.state: LoopState | None = None
        self.writer: TraceWriter | None = None
        self.recorded: Recorded | None = None
        self.rows: list[Row] = []

    def run(self) -> None:
        """Raises `UserError` for what the user can mend and, once all is saved, KeyboardInterrupt if interrupted."""
        with deferred() as self.interrupts, continuations() as stops:
            durable.clear(self.folder)
            saved = self._restore()  # a refusal leaves everything as it is
            self.clock = Stopwatch(saved.elapsed if saved else 0.0, stops)
            self.history = History(self.folder, self._about())
            self.history.start(self.runtime.device, self.runtime.threads, self._left())
            try:
                status = self._work(saved)
                self._finish(status)
            except Exception as error:
                self._break_off("failed", error)
                if mendable := self._mendable(error):
                    raise mendable from error
                raise
            except BaseException:
                self._break_off("interrupted")
                raise
            finally:
                if self.writer is not None:
                    self.writer.close()
            if status != "interrupted":
                print(summary(self.folder, status, self.rows, self.clock.elapsed, self._unsolved))

    def _work(self, saved: Checkpoint | None) -> str:
        """All steps that are left, and how that ended."""
        if self.state is None:
            self.state = self.loop.begin(self.problem, self.identity.seed)
        self.writer = TraceWriter(self.folder, self._columns, saved.trace.encode() if saved else None)
        if saved:
            self.recorded = Recorded(self.state, saved.elapsed, len(self.writer.content))
        elif not self._record():
            return "diverged"
        saved_at = time.monotonic()
        steps = range(self.state.step, self.loop.length(self.problem))
        for _ in (bar := tqdm(steps, desc=str(self.identity.folder), disable=None, leave=False)):
            if self.interrupts:
                return "interrupted"
            self._advance()
            if not self._record():
                return "diverged"
            if not bar.disable:
                bar.set_postfix(self.loop.progress(self.state))
            if time.monotonic() - saved_at >= self.runtime.checkpoint_every:
                self._save()
                saved_at = time.monotonic()
        return "done"

    def _advance(self) -> None:
        if self.loop.changes_in_place:
            self.recorded = None  # until the step is whole
        with self.clock.running():
            self.state = self.loop.advance(self.problem, self.state)

    def _record(self) -> bool:
        """Append the rows of this step, if it has any; False where the method has diverged."""
        assert self.writer is not None
        rows = self.loop.measure(self.problem, self.state)
        for row in rows:
            self.writer.append({"time": self.clock.elapsed, **row})
        self.rows = rows or self.rows
        diverged = self.loop.diverged(self.state)
        assert self.state is not None
        self.recorded = None if diverged else Recorded(self.state, self.clock.elapsed, len(self.writer.content))
        return not diverged

    def _save(self) -> None:
        """A checkpoint of the last good step. Its rows are durable before it is, and it holds them besides."""
        if self.recorded is None or self.writer is None:
            return
        self.writer.sync()
        trace = self.writer.content[: self.recorded.trace_bytes].decode()
        state = self.recorded.state.as_dict()
        save(self.folder, Checkpoint(self.identity.config, state, trace, self.recorded.elapsed))

    def _finish(self, status: str) -> None:
        """Say how the run ended, once all that this stands for is durable."""
        assert self.writer is not None
        self.writer.sync()
        if status == "interrupted" or (status == "done" and self.loop.keeps_state):
            self._save()
        self.history.end(status, self._left())
        if status == "done" and not self.loop.keeps_state:
            (self.folder / CHECKPOINT).unlink(missing_ok=True)

    def _break_off(self, status: str, error: Exception | None = None) -> None:
        """Keep what an error allows: the error is what is told of, not what it still prevents."""
        with contextlib.suppress(Exception):
            self._save()
        with contextlib.suppress(Exception):
            self.history.end(status, self._left(), error)

    def _mendable(self, error: Exception) -> UserError | None:
        """What the user can mend, in a line; a bug is None."""
        if is_out_of_memory(error):
            where = f"out of memory after step {self._step}"
            return UserError(f"{self.folder}: {where} ({one_line(error)}); smaller batches, models or data need less")
        if isinstance(error, OSError):
            then = "mend that, and the same command goes on from here"
            return UserError(f"{self.folder}: {one_line(error)}; {then}")
        return None

    def _restore(self) -> Checkpoint | None:
        """The checkpoint, if there is one, and its state. Raises `UserError` for one of another run."""
        saved = load(self.folder, self.runtime.device)
        if saved is None:
            return None
        path = self.folder / CHECKPOINT
        if saved.config != self.identity.config:
            raise unusable(path, "its configuration is another one")
        try:
            state = self.loop.restore(self.problem, saved.state)
            misfit = self._misfit(state, saved)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise unusable(path, one_line(error)) from error
        if misfit:
            raise unusable(path, misfit)
        self.state = state
        print(f"{self.folder}: resumed after step {state.step}")
        if not _begins_with(self.folder / TRACE, saved.trace.encode()):
            print(f"{self.folder}: {TRACE} lacked rows, or had others; written anew from {CHECKPOINT}")
        return saved

    def _misfit(self, state: LoopState, saved: Checkpoint) -> str | None:
        """What keeps the loop from going on from this state and trace."""
        length = self.loop.length(self.problem)
        if not 0 <= state.step <= length:
            return f"its step is {state.step}, and the run has {length}"
        if not (math.isfinite(saved.elapsed) and saved.elapsed >= 0):
            return f"its time is {saved.elapsed}"
        lines = list(csv.reader(saved.trace.splitlines()))
        if not lines or tuple(lines[0]) != self._columns:
            return "its trace has other columns"
        if any(not 0 <= int(line[0]) <= state.step for line in lines[1:]):
            return f"its trace has steps beyond {state.step}"
        if shapes := _shapes(state):
            expected = _shapes(self.loop.begin(self.problem, self.identity.seed))
            wrong = [name for name in expected if shapes.get(name) != expected[name]]
            return f"its {', '.join(wrong)} has another shape than the data needs" if wrong else None
        return None

    @property
    def _columns(self) -> tuple[str, ...]:
        return ("step", "time", *self.loop.columns)

    @property
    def _step(self) -> int:
        return 0 if self.state is None else self.state.step

    @property
    def _unsolved(self) -> dict[str, int]:
        return {"inner": 0, "backward": 0} if self.state is None else self.state.unsolved

    def _about(self) -> dict[str, Any]:
        """What run.json says of the run, whoever starts it."""
        about: dict[str, Any] = {name: getattr(self.identity, name) for name in ("choices", "seed", "differs")}
        about |= self.problem.sizes
        return about if self.data is None else about | {"data": dict(self.data)}

    def _left(self) -> dict[str, Any]:
        """What run.json says of what the run has left so far."""
        left: dict[str, Any] = {"step": self._step, "unsolved": self._unsolved}
        if self.clock.stopped:
            left["seconds_stopped"] = self.clock.stopped
        if self.writer is not None:
            left["trace"] = fingerprint(bytes(self.writer.content))
        return left


def is_out_of_memory(error: Exception) -> bool:
    """Of a GPU, or of this machine: PyTorch says the latter by a RuntimeError."""
    if isinstance(error, RuntimeError):
        return isinstance(error, torch.OutOfMemoryError) or bool(OUT_OF_MEMORY.search(str(error)))
    return isinstance(error, MemoryError)


def summary(folder: Path, status: str, rows: list[Row], seconds: float, unsolved: Mapping[str, int]) -> str:
    """What a run ended with, a line each."""
    lines = [f"{folder}: {status} after {seconds:.2f} s"]
    if len(rows) == 1:
        lines += [f"  {name:<18}{value:>12.6g}" for name, value in rows[0].items() if not isinstance(value, str)]
    lines += [
        f"  {n} of its {UNSOLVED[kind]} were not solved to their tolerance (trace column unsolved_{kind}); its numbers "
        "there may be off: scaled data, more steps or another solver may solve them"
        for kind, n in unsolved.items()
        if n
    ]
    return "\n".join(lines)


def _begins_with(path: Path, content: bytes) -> bool:
    try:
        return durable.read(path).startswith(content)
    except OSError:
        return False


def _shapes(state: LoopState) -> dict[str, torch.Size]:
    """Of the tensors that a state holds by name, α and θ; what a network holds is checked where it is loaded."""
    return {name: value.shape for name, value in state.as_dict().items() if isinstance(value, Tensor)}
