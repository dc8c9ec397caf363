"""A loop at work in its folder: clock, trace, checkpoints, progress, and what run.json says of it."""

import os
import platform
import socket
import subprocess
import time
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from shine_exp.errors import UserError
from shine_exp.identity import Identity
from shine_exp.outer.loop import LoopState, OuterLoop
from shine_exp.runtime import Runtime
from shine_exp.signals import deferred
from shine_exp.trace import INFO, Row, Stopwatch, TraceWriter, write_json

CHECKPOINT = "checkpoint.pt"


class Session:
    """One run of a loop on a problem, from its checkpoint if there is one."""

    def __init__(
        self,
        loop: OuterLoop[Any, Any],
        problem: Any,
        identity: Identity,
        folder: Path,
        runtime: Runtime,
        data: dict[str, Any],
    ) -> None:
        self.loop, self.problem, self.identity = loop, problem, identity
        self.folder, self.runtime, self.data = folder, runtime, data

    def run(self) -> None:
        self.clock, self.state, keep = self._start()
        self.recorded: tuple[LoopState, float] | None = None if keep is None else (self.state, self.clock.elapsed)
        self.writer = TraceWriter(self.folder, ("step", "time", *self.loop.columns), keep)
        self._note("running")
        try:
            status = self._steps(fresh=keep is None)
            self._leave_checkpoint(status)
        except KeyboardInterrupt:
            with deferred():  # a scheduler may send its signal more than once
                self._save()
                self._note("interrupted")
            raise
        except Exception:
            self._note("failed")
            raise
        finally:
            self.writer.close()
        self._note(status)
        print(summary(self.folder, status, self.rows, self.clock.elapsed))

    def _steps(self, fresh: bool) -> str:
        saved = time.monotonic()
        self.rows: list[Row] = []
        if fresh and not self._record():
            return "diverged"
        steps = range(self.state.step, self.loop.length(self.problem))
        for _ in (bar := tqdm(steps, desc=str(self.identity.folder), disable=None, leave=False)):
            with deferred() if self.loop.changes_in_place else nullcontext():
                with self.clock.running():
                    self.state = self.loop.advance(self.problem, self.state)
                well = self._record()
            if not well:
                return "diverged"
            if not bar.disable:
                bar.set_postfix(self.loop.progress(self.state))
            if time.monotonic() - saved >= self.runtime.checkpoint_every:
                self._save()
                saved = time.monotonic()
        return "done"

    def _record(self) -> bool:
        """Append the rows of this step, if it has any; False where the method has diverged."""
        rows = self.loop.measure(self.problem, self.state)
        for row in rows:
            self.writer.append({"time": self.clock.elapsed, **row})
        self.rows = rows or self.rows
        diverged = self.loop.diverged(self.state)
        self.recorded = None if diverged else (self.state, self.clock.elapsed)
        return not diverged

    def _start(self) -> tuple[Stopwatch, LoopState, int | None]:
        """Clock, state and last step that counts: from the checkpoint, else from the beginning."""
        path = self.folder / CHECKPOINT
        if not path.is_file():
            return Stopwatch(), self.loop.begin(self.problem, self.identity.seed), None
        try:
            saved = torch.load(path, map_location=self.runtime.device, weights_only=True)
            if saved["config"] != self.identity.config:
                raise ValueError("its configuration is another one")
            state = self.loop.restore(self.problem, saved["state"])
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            raise UserError(f"{path}: not a checkpoint of this run; delete it to start the run anew") from error
        print(f"{self.folder}: resumed after step {state.step}")
        return Stopwatch(saved["elapsed"]), state, state.step

    def _save(self) -> None:
        """A checkpoint of the last good step whose rows are all in the trace; one that was cut short is repeated."""
        if self.recorded is None:
            return
        state, elapsed = self.recorded
        temporary = self.folder / (CHECKPOINT + ".tmp")
        content = {"config": self.identity.config, "elapsed": elapsed, "state": state.as_dict()}
        torch.save(content, temporary)
        os.replace(temporary, self.folder / CHECKPOINT)

    def _leave_checkpoint(self, status: str) -> None:
        """The last good one of a run that diverged; of one that is done its end, where that is worth keeping."""
        if status == "done" and self.loop.keeps_state:
            self._save()
        elif status == "done":
            (self.folder / CHECKPOINT).unlink(missing_ok=True)

    def _note(self, status: str) -> None:
        info = {
            "status": status,
            "choices": self.identity.choices,
            "seed": self.identity.seed,
            "differs": self.identity.differs,
            **self.problem.sizes,
            "data": self.data,
            "versions": {name: version(name) for name in ("shine-exp", "torch", "numpy", "scipy", "scikit-learn")},
            "python": platform.python_version(),
            "commit": commit(),
            "host": socket.gethostname(),
            "device": device_name(self.runtime.device),
            "threads": self.runtime.threads,
        }
        write_json(self.folder / INFO, info)


def device_name(device: str) -> str:
    """PyTorch's name of the device, and of a GPU which one it is."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.startswith("cuda") else device


def commit() -> str | None:
    """The commit of the checkout that this module lies in, if it does."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def summary(folder: Path, status: str, rows: list[Any], seconds: float) -> str:
    """What a run ended with, a line each."""
    lines = [f"{folder}: {status} after {seconds:.2f} s"]
    if len(rows) == 1:
        lines += [f"  {name:<18}{value:>12.6g}" for name, value in rows[0].items() if not isinstance(value, str)]
    return "\n".join(lines)
