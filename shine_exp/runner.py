"""One run: from a composed configuration to a folder that is done, made, skipped, resumed or refused."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from filelock import FileLock, Timeout
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig

from shine_exp import durable
from shine_exp.compatibility import DATA, check
from shine_exp.errors import UserError, one_line
from shine_exp.identity import Identity, identify
from shine_exp.session import Runtime, Session
from shine_exp.trace import CONFIG, INFO, check_trace, read_info
from shine_exp.validation import check_values


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
                Session(instantiate(config.outer), problem, identity, folder, runtime).run()
    except Timeout:
        print(f"{folder}: another process is at work on this run, left to it")
    except torch.OutOfMemoryError as error:
        raise UserError(f"runtime.device={runtime.device}: out of memory; take smaller batches or models") from error
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(f"{folder}: {one_line(error)}; mend that, and the same command goes on from here") from error


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
    """Set threads and precision. Raises `UserError` where the device cannot be used, or has no float64."""
    try:
        torch.empty(0, dtype=torch.float64, device=runtime.device)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"runtime.device={runtime.device}: not usable here ({reason}); take runtime.device=cpu"
        ) from error
    torch.set_num_threads(runtime.threads)
    torch.backends.cudnn.allow_tf32 = False  # its rounding, 5e-4, is far above the tolerance of an equilibrium


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
        durable.write(path, yaml.safe_dump(identity.config, sort_keys=False, allow_unicode=True).encode())


def finished(folder: Path, identity: Identity) -> bool:
    """Whether nothing is left to do, which is printed. Raises `UserError` where the folder holds another run."""
    path = folder / CONFIG
    try:
        there = yaml.safe_load(path.read_text()) if path.is_file() else identity.config
    except (ValueError, OSError, yaml.YAMLError) as error:  # a ValueError: it is not UTF-8
        raise UserError(f"{path}: damaged; delete the folder and run it again") from error
    if there != identity.config:
        raise UserError(
            f"{folder}: holds a run of another configuration (see {CONFIG} there); move it away, or set "
            "runtime.results=FOLDER"
        )
    info = read_info(folder) if (folder / INFO).is_file() else {}
    status = info.get("status")
    if status not in ("done", "diverged"):
        return False
    check_trace(folder, info)
    print(f"{folder}: {status} already, nothing to do")
    return True
