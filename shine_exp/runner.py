"""One run: from a composed configuration to a trace on disk, skipped, resumed or refused as its folder demands."""

import math
import os
import platform
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from filelock import FileLock, Timeout
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig
from pydantic import NonNegativeFloat, PositiveInt
from tqdm import tqdm

from shine_exp.compatibility import DATA, check
from shine_exp.errors import UserError
from shine_exp.identity import Identity, identify
from shine_exp.outer.loop import LoopState, OuterLoop
from shine_exp.signals import deferred
from shine_exp.trace import CONFIG, INFO, Row, Stopwatch, TraceWriter, read_info, write_json
from shine_exp.validation import check_values

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class Runtime:
    """Where and how to run: the folder of all runs, PyTorch's device and threads, seconds between checkpoints."""

    results: str
    device: str
    threads: PositiveInt
    checkpoint_every: NonNegativeFloat


def run(config: DictConfig, choices: dict[str, str]) -> None:
    """Do the run, unless it is done or running; print where it stands. Raises `UserError` for what a user can mend."""
    check_values(config)
    check(config, choices)
    identity = identify(config, choices)
    runtime: Runtime = instantiate(config.runtime)
    prepare(runtime)
    folder = Path(runtime.results) / identity.folder
    if finished(folder, identity):
        return
    problem = load(config, identity.choices)  # before the folder is made: what is refused leaves nothing behind
    try:
        with locked(folder):
            if not finished(folder, identity):
                claim(folder, identity)
                _Session(instantiate(config.outer), problem, identity, folder, runtime).run()
    except Timeout:
        print(f"{folder}: another process is at work on this run, left to it")


def load(config: DictConfig, choices: dict[str, str]) -> Any:
    """The problem on its data. Raises `UserError` where the data is of another kind than the problem needs."""
    problem: Any = get_class(config.problem._target_)
    data = instantiate(config.data)
    if not isinstance(data, problem.data_type):
        needed = DATA[problem.solution]
        raise UserError(f"problem={choices['problem']} cannot use data={choices['data']}: it needs {needed}")
    sets = problem.sets(data, config.seed)
    return instantiate(config.problem, _partial_=True)(splits=sets, device=config.runtime.device)


def prepare(runtime: Runtime) -> None:
    """Set threads and memory. Raises `UserError` where the device cannot be used."""
    try:
        torch.empty(0, device=runtime.device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"runtime.device={runtime.device}: not usable here ({reason}); take runtime.device=cpu"
        ) from error
    torch.set_num_threads(runtime.threads)
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # else page faults take a fifth of TINY's step


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock. Raises `Timeout` where another process has it."""
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); set runtime.results=FOLDER") from error
    try:
        yield
    finally:
        lock.release()


def claim(folder: Path, identity: Identity) -> None:
    """Write config.yaml, unless it is there."""
    path = folder / CONFIG
    if not path.is_file():
        temporary = path.with_suffix(".tmp")
        temporary.write_text(yaml.safe_dump(identity.config, sort_keys=False, allow_unicode=True))
        os.replace(temporary, path)


def finished(folder: Path, identity: Identity) -> bool:
    """Whether nothing is left to do, which is printed. Raises `UserError` where the folder holds another run."""
    path = folder / CONFIG
    try:
        there = yaml.safe_load(path.read_text()) if path.is_file() else identity.config
    except yaml.YAMLError as error:
        raise UserError(f"{path}: damaged; delete the folder and run it again") from error
    if there != identity.config:
        raise UserError(
            f"{folder}: holds a run of another configuration (see {CONFIG} there); move it away, or set "
            "runtime.results=FOLDER"
        )
    status = read_info(folder)["status"] if (folder / INFO).is_file() else None
    if status not in ("done", "diverged"):
        return False
    print(f"{folder}: {status} already, nothing to do")
    return True


class _Session:
    """The loop, its state, its trace and its clock."""

    def __init__(
        self, loop: OuterLoop[Any, Any], problem: Any, identity: Identity, folder: Path, runtime: Runtime
    ) -> None:
        self.loop, self.problem, self.identity, self.folder, self.runtime = loop, problem, identity, folder, runtime

    def run(self) -> None:
        self.clock, self.state, keep = self._start()
        self.recorded: tuple[LoopState, float] | None = None if keep is None else (self.state, self.clock.elapsed)
        self.writer = TraceWriter(self.folder, ("step", "time", *self.loop.columns), keep)
        self._note("running")
        try:
            status = self._steps(fresh=keep is None)
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
        (self.folder / CHECKPOINT).unlink(missing_ok=True)
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
        """Append the rows of this step, if it has any; False where a loss of the method is not finite."""
        rows = self.loop.measure(self.problem, self.state)
        for row in rows:
            self.writer.append({"time": self.clock.elapsed, **row})
        self.rows = rows or self.rows
        self.recorded = self.state, self.clock.elapsed
        losses = [float(row[name]) for row in rows for name in ("outer_loss", "train_loss") if name in row]
        return all(map(math.isfinite, losses))

    def _start(self) -> tuple[Stopwatch, LoopState, int | None]:
        """Clock, state and last step that counts: from the checkpoint, else from the beginning."""
        path = self.folder / CHECKPOINT
        if not path.is_file():
            return Stopwatch(), self.loop.begin(self.problem, self.identity.seed), None
        try:
            saved = torch.load(path, weights_only=True)
            state = self.loop.restore(self.problem, saved["state"])
        except Exception as error:
            raise UserError(f"{path}: not a checkpoint of this run; delete it to start the run anew") from error
        print(f"{self.folder}: resumed after step {state.step}")
        return Stopwatch(saved["elapsed"]), state, state.step

    def _save(self) -> None:
        """A checkpoint of the last step whose rows are all in the trace; a step that was cut short is repeated."""
        if self.recorded is None:
            return
        state, elapsed = self.recorded
        temporary = self.folder / (CHECKPOINT + ".tmp")
        torch.save({"elapsed": elapsed, "state": state.as_dict()}, temporary)
        os.replace(temporary, self.folder / CHECKPOINT)

    def _note(self, status: str) -> None:
        info = {
            "status": status,
            "choices": self.identity.choices,
            "seed": self.identity.seed,
            "differs": self.identity.differs,
            **self.problem.sizes,
            "versions": {name: version(name) for name in ("shine-exp", "torch", "numpy", "scipy", "scikit-learn")},
            "python": platform.python_version(),
            "commit": commit(),
            "host": socket.gethostname(),
            "device": self.runtime.device,
            "threads": self.runtime.threads,
        }
        write_json(self.folder / INFO, info)


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
