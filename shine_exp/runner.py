"""One run: from a composed configuration to a trace on disk, skipped, resumed or refused as its folder demands."""

import os
import platform
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import yaml
from filelock import FileLock, Timeout
from hydra.utils import instantiate
from omegaconf import DictConfig
from tqdm import tqdm

from shine_exp.data.splits import Splits, split
from shine_exp.errors import UnsupportedSolver, UserError
from shine_exp.identity import Identity
from shine_exp.outer.loop import OuterLoop, State
from shine_exp.problems.linear_model import LinearModel
from shine_exp.trace import CONFIG, INFO, Stopwatch, TraceWriter, read_info, write_json

CHECKPOINT = "checkpoint.pt"


def run(config: DictConfig, identity: Identity) -> None:
    """Do the run, unless it is done or running; print where it stands. Raises `UserError` for what a user can mend."""
    check_pair(config)
    torch.set_num_threads(config.runtime.threads)
    check_device(config.runtime.device)
    folder = Path(config.runtime.results) / identity.folder
    try:
        with locked(folder):
            claim(folder, identity)
            if (folder / INFO).is_file() and read_info(folder)["status"] in ("done", "diverged"):
                print(f"{folder}: {read_info(folder)['status']} already, nothing to do")
                return
            splits = split(instantiate(config.data), config.seed)
            _Session(config, identity, folder, splits).run()
    except Timeout:
        print(f"{folder}: another process is at work on this run, left to it")


def check_pair(config: DictConfig) -> None:
    """Refuse a method that needs what the solver does not give, before any work."""
    solver = instantiate(config.solver)
    inverse = instantiate(config.method.inverse)
    if getattr(inverse, "uses_forward_inverse", False) and not solver.leaves_inverse:
        raise UnsupportedSolver(
            "this method uses the solver's inverse estimate and this solver leaves none: take solver=lbfgs, bfgs or "
            "scipy, or a method that needs no estimate: cg, full, neumann, jf"
        )
    if config.method.opa is not None and not solver.takes_awareness:
        raise UnsupportedSolver("method.opa needs a solver that takes extra secant pairs: solver=lbfgs or bfgs")


def check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"runtime.device={device}: not usable here ({reason}); take runtime.device=cpu") from error


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
    """Write config.yaml, or compare with the one that is there. Raises `UserError` where it is another run's."""
    path = folder / CONFIG
    if not path.is_file():
        temporary = path.with_suffix(".tmp")
        temporary.write_text(yaml.safe_dump(identity.config, sort_keys=False, allow_unicode=True))
        os.replace(temporary, path)
    elif yaml.safe_load(path.read_text()) != identity.config:
        raise UserError(
            f"{folder}: holds a run of another configuration (see {CONFIG} there); move it away, or set "
            "runtime.results=FOLDER"
        )


class _Session:
    """The loop, its state, its trace and its clock."""

    def __init__(self, config: DictConfig, identity: Identity, folder: Path, splits: Splits) -> None:
        self.config, self.identity, self.folder, self.splits = config, identity, folder, splits
        self.problem: LinearModel = instantiate(config.problem, _partial_=True)(
            splits=splits, device=config.runtime.device
        )
        self.loop: OuterLoop = instantiate(config.outer)

    def run(self) -> None:
        self.clock, self.state, keep = self._start()
        self.recorded: tuple[State, float] | None = None if keep is None else (self.state, self.clock.elapsed)
        self.writer = TraceWriter(self.folder, ("step", "time", *self.loop.columns), keep)
        self._note("running")
        try:
            with terminated_as_interrupt():
                status = self._steps(fresh=keep is None)
        except KeyboardInterrupt:
            self._save()
            self._note("interrupted")
            raise
        finally:
            self.writer.close()
        self._note(status)
        (self.folder / CHECKPOINT).unlink(missing_ok=True)
        print(summary(self.folder, status, self.rows, self.clock.elapsed))

    def _steps(self, fresh: bool) -> str:
        saved = time.monotonic()
        if fresh and not self._record():
            return "diverged"
        label = f"{self.identity.folder}"
        for _ in tqdm(range(self.state.step, self.loop.n_steps), desc=label, disable=None, leave=False):
            with self.clock.running():
                state = self.loop.advance(self.problem, self.state)
            self.state = state
            if not self._record():
                return "diverged"
            if time.monotonic() - saved > self.config.runtime.checkpoint_every:
                self._save()
                saved = time.monotonic()
        return "done"

    def _record(self) -> bool:
        """Append the rows of this step; False where a number of the method is not finite."""
        self.rows = self.loop.measure(self.problem, self.state)
        for row in self.rows:
            self.writer.append({"time": self.clock.elapsed, **row})
        self.recorded = self.state, self.clock.elapsed
        measured = [row["outer_loss"] for row in self.rows if "outer_loss" in row]
        return all(abs(float(value)) < float("inf") for value in measured)

    def _start(self) -> tuple[Stopwatch, State, int | None]:
        """Clock, state and last step that counts: from the checkpoint, else from the beginning."""
        path = self.folder / CHECKPOINT
        if not path.is_file():
            return Stopwatch(), self.loop.begin(self.problem, self.identity.seed), None
        try:
            saved = torch.load(path, weights_only=True)
            state = self.loop.restore(saved["state"])
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
        sizes = {f"n_{name}": len(getattr(self.splits, name)[1]) for name in ("train", "outer", "test")}
        info = {
            "status": status,
            "choices": self.identity.choices,
            "seed": self.identity.seed,
            "differs": self.identity.differs,
            **sizes,
            "versions": {name: version(name) for name in ("shine-exp", "torch", "numpy", "scipy", "scikit-learn")},
            "python": platform.python_version(),
            "commit": commit(),
            "host": socket.gethostname(),
            "device": self.config.runtime.device,
            "threads": self.config.runtime.threads,
        }
        write_json(self.folder / INFO, info)


@contextmanager
def terminated_as_interrupt() -> Iterator[None]:
    """SIGTERM, which a scheduler sends before it kills, ends the run as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


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
        names = ("alpha", "outer_loss", "test_loss", "accuracy", "inner_steps", "evals", "products")
        lines += [f"  {name:<12}{rows[0][name]:>12.6g}" for name in names if name in rows[0]]
    return "\n".join(lines)
