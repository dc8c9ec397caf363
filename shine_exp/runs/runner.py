"""One run, from a composed configuration to its folder: made, resumed, skipped or refused.

PyTorch is imported only once a run is known not to be done.
"""

import gc
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout
from hydra.utils import instantiate
from omegaconf import DictConfig

from shine_exp import durable
from shine_exp.errors import UserError, of_the_users, one_line
from shine_exp.processes import joined, processes
from shine_exp.runs.code import code_of, refuse_other_code
from shine_exp.runs.identity import RunIdentity, identify
from shine_exp.runs.inputs import record, refuse_other_data, refuse_other_files
from shine_exp.runs.machine import is_out_of_memory
from shine_exp.runs.problem import load
from shine_exp.runs.run import CONFIG, ENDED, INFO, LOCK, damaged, read_config, read_info
from shine_exp.runs.runtime import Runtime
from shine_exp.runs.trace import check_trace
from shine_exp.runs.validation import check_unidentified, check_values, users_files, users_modules

STATUS = ("running", "interrupted", "failed", *ENDED)
A_LOOK = 0.2  # seconds: whoever only asks whether a lock is free holds it for less


def run(config: DictConfig, choices: dict[str, str], verbose: bool = True) -> Path:
    """Do the run, unless it is done or running, and give its folder.

    `verbose` prints where it stands. Of several processes (`shine_exp.processes`) one begins, tells
    and ends it. Raises `UserError` for what a user can mend, `EndedElsewhere` where another process
    has met it.
    """
    began = time.monotonic()
    with joined(config.runtime.device) as all_of_them:
        verbose = verbose and all_of_them.is_first
        folder, done = all_of_them.agreed(lambda: found(config, choices, verbose))
        if not all_of_them.by_first(lambda: done):
            _begin(config, choices, folder, verbose, began)
    return folder


def _begin(
    config: DictConfig, choices: dict[str, str], folder: Path, verbose: bool, began: float
) -> None:
    """Do a run that is not done."""
    # PyTorch is imported from here on, with what the targets name.
    from shine_exp.runs.compatibility import check_classes, check_objects

    identity, runtime = identify(config, choices), instantiate(config.runtime)

    def check() -> None:
        check_classes(config, choices)
        check_values(config)
        check_objects(config, choices)

    try:
        processes().agreed(check)
        work(config, identity, folder, runtime, verbose, began)
    except (BrokenPipeError, UserError):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise UserError(
                f"runtime.device={runtime.device}: out of memory ({one_line(error)}); "
                "take smaller batches or models"
            ) from error
        if isinstance(error, OSError):
            then = "mend that, and the same command goes on from here"
            raise UserError(f"{folder}: {one_line(error)}; {then}") from error
        if (line := of_the_users(error, users_files(config))) is not None:
            raise UserError(line) from error
        raise


def found(config: DictConfig, choices: dict[str, str], verbose: bool = True) -> tuple[Path, bool]:
    """The folder of a run, and whether it is done there, which `verbose` prints.

    Raises `UserError` where the command cannot be meant so. PyTorch is not needed for it: what is
    there was once checked.
    """
    identity = identify(config, choices)
    check_unidentified(config)
    runtime: Runtime = instantiate(config.runtime)
    runtime.check()
    folder = Path(runtime.results) / identity.folder
    there = (folder / CONFIG).is_file() and identity.is_of(read_config(folder))
    return folder, there and over(folder, config, verbose)


def work(
    config: DictConfig,
    identity: RunIdentity,
    folder: Path,
    runtime: Runtime,
    verbose: bool,
    began: float,
) -> None:
    """Make or resume the run. What is refused before its session starts leaves nothing behind.

    `began`, by the monotonic clock, is what `runtime.max_minutes` counts from.
    """
    from shine_exp.runs.following import follow
    from shine_exp.runs.session import Session
    from shine_exp.runs.warm_up import warm_up

    def made() -> tuple[Any, Any, str | None]:
        loop = instantiate(config.outer)
        given, digest = load(config)
        problem = loop.suited(given)
        loop.check(problem)
        return loop, problem, digest

    gc.enable()
    with runtime.prepared(), ExitStack() as held:
        loop, problem, digest = processes().agreed(made)
        read = {"data": record(config, digest), "code": code_of(users_modules(config))}

        def is_ours() -> bool:
            """Whether something is left to do, and this process holds the lock to do it."""
            try:
                held.enter_context(locked(folder))
            except Timeout:
                _tell(verbose, f"{folder}: another process is at work on this run, left to it")
                return False
            if finished(folder, identity, config, verbose):
                return False
            refuse_other_data(folder, _info(folder), read["data"])
            _tell(verbose, *refuse_other_code(folder, _info(folder)))
            claim(folder, identity)
            return True

        if processes().by_first(is_ours):
            differentiates = _differentiates(loop, problem)
            warm_up(problem, instantiate(config.solver), runtime.device, differentiates)
            if processes().is_first:
                session = Session(loop, problem, identity, folder, runtime, read, verbose)
                session.run(deadline=began + 60 * (runtime.max_minutes or math.inf))
            else:
                follow(loop, problem, identity, folder, runtime)


def _differentiates(loop: Any, problem: Any) -> bool:
    """Whether autograd is at work: in a network, or through unrolled steps."""
    hypergradient = getattr(loop, "hypergradient", None)
    return problem.seeks == "root" or hasattr(hypergradient, "n_unrolled")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock. Raises `Timeout` where another process has it."""
    lock = FileLock(folder / LOCK, timeout=A_LOOK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror}); set runtime.results=FOLDER"
        ) from error
    try:
        yield
    finally:
        lock.release()


def claim(folder: Path, identity: RunIdentity) -> None:
    """Write config.yaml, unless it is there."""
    path = folder / CONFIG
    if not path.is_file():
        text = yaml.safe_dump(identity.config, sort_keys=False, allow_unicode=True)
        durable.write(path, text.encode())


def finished(folder: Path, identity: RunIdentity, config: DictConfig, verbose: bool) -> bool:
    """Whether nothing is left to do.

    Raises `UserError` where the folder holds another run.
    """
    if (folder / CONFIG).is_file() and not identity.is_of(read_config(folder)):
        raise other_run(folder)
    return over(folder, config, verbose)


def other_run(folder: Path) -> UserError:
    """The error for a folder that is not the run's own."""
    return UserError(
        f"{folder}: holds a run of another configuration (see {CONFIG} there); "
        "move it away, or set runtime.results=FOLDER"
    )


def over(folder: Path, config: DictConfig, verbose: bool) -> bool:
    """Whether the run in its folder is done.

    Raises `UserError` where it was made with other data, or other code of the user's.
    """
    info = _info(folder)
    if info.get("status") not in ENDED:
        return False
    check_trace(folder, info)
    recorded = refuse_other_files(folder, info, config)
    refuse_other_code(folder, info)
    unsure = "" if recorded else " (data not recorded)"
    why = f" ({info['reason']})" if "reason" in info else ""
    _tell(verbose, f"{folder}: {info['status']} already{why}, nothing to do{unsure}")
    return True


def _info(folder: Path) -> dict[str, Any]:
    """run.json, empty where there is none yet. Raises `UserError` where it is damaged."""
    info = read_info(folder) if (folder / INFO).is_file() else {"status": STATUS[0]}
    if info.get("status") not in STATUS:
        raise damaged(folder / INFO, f"its status is {info.get('status')}")
    return info


def _tell(verbose: bool, *lines: str) -> None:
    if verbose:
        for line in lines:
            print(line)
