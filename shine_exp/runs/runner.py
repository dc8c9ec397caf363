"""One run: from a composed configuration to a folder that is done, made, skipped, resumed or
refused.

PyTorch is imported only once a run is known not to be done.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig

from shine_exp import durable
from shine_exp.errors import UserError, one_line, raised_in
from shine_exp.runs.compatibility import check, check_data
from shine_exp.runs.identity import Identity, flat, folders, identify, known_by
from shine_exp.runs.inputs import record, refuse_other_data, refuse_other_files
from shine_exp.runs.machine import is_out_of_memory
from shine_exp.runs.runtime import Runtime
from shine_exp.runs.trace import CONFIG, INFO, check_trace, damaged, read_info
from shine_exp.runs.validation import check_unidentified, check_values, users_files

OVER = ("done", "diverged")
STATUS = ("running", "interrupted", "failed", *OVER)


def run(config: DictConfig, choices: dict[str, str]) -> None:
    """Do the run, unless it is done or running; print where it stands. Raises `UserError` for what
    a user can mend.
    """
    if passed_over(config, choices):
        return
    check_values(config)  # PyTorch is imported here, with what the targets name
    check(config, choices)
    identity, runtime = identify(config, choices), instantiate(config.runtime)
    folder = Path(runtime.results) / identity.folder
    try:
        work(config, identity, folder, runtime)
    except Timeout:
        print(f"{folder}: another process is at work on this run, left to it")
    except (BrokenPipeError, UserError):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise UserError(
                f"runtime.device={runtime.device}: out of memory ({one_line(error)}); take smaller batches or models"
            ) from error
        if isinstance(error, OSError):
            reason = one_line(error)
            raise UserError(
                f"{folder}: {reason}; mend that, and the same command goes on from here"
            ) from error
        if (line := raised_in(error, users_files(config))) is not None:
            raise UserError(f"{line}: {one_line(error)}") from error
        raise


def passed_over(config: DictConfig, choices: dict[str, str]) -> bool:
    """Whether the run is done, which is printed.

    Raises `UserError` where the command cannot be meant so.

    Neither PyTorch nor the default configuration is needed for it: what is there was once checked.
    """
    numbers = known_by(config)
    check_unidentified(config)
    runtime: Runtime = instantiate(config.runtime)
    runtime.check()
    places = (Path(runtime.results) / folder for folder in folders(numbers, choices))
    return any(_holds(folder, numbers) and over(folder, config) for folder in places)


def work(config: DictConfig, identity: Identity, folder: Path, runtime: Runtime) -> None:
    """Make or resume the run. What is refused before its session starts leaves nothing behind."""
    from shine_exp.runs.session import Session
    from shine_exp.runs.warm_up import warm_up

    gc.enable()
    runtime.prepare()
    loop = instantiate(config.outer)
    problem, digest = load(config, identity.choices)
    data = record(config, digest)
    differentiates = problem.solution == "root" or config.method.n_unrolled is not None
    with locked(folder):
        if not finished(folder, identity, config):
            refuse_other_data(folder, _info(folder), data)
            claim(folder, identity)
            warm_up(problem, instantiate(config.solver), differentiates)
            Session(loop, problem, identity, folder, runtime, data).run()


def load(config: DictConfig, choices: dict[str, str]) -> tuple[Any, str | None]:
    """The problem on its data, and their digest.

    Raises `UserError` where the problem cannot use them.
    """
    problem: Any = get_class(config.problem._target_)
    data = instantiate(config.data)
    check_data(problem, type(data), choices)
    sets = problem.sets(data, config.seed)
    made = instantiate(config.problem, _partial_=True)(splits=sets, device=config.runtime.device)
    return made, getattr(data, "digest", None)


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
        raise UserError(
            f"{folder}: cannot be written ({error.strerror}); set runtime.results=FOLDER"
        ) from error
    try:
        yield
    finally:
        lock.release()


def claim(folder: Path, identity: Identity) -> None:
    """Write config.yaml, unless it is there."""
    path = folder / CONFIG
    if not path.is_file():
        durable.write(
            path, yaml.safe_dump(identity.config, sort_keys=False, allow_unicode=True).encode()
        )


def finished(folder: Path, identity: Identity, config: DictConfig) -> bool:
    """Whether nothing is left to do, which is printed.

    Raises `UserError` where the folder holds another run.
    """
    if (folder / CONFIG).is_file() and not same_run(_config(folder), identity):
        raise UserError(
            f"{folder}: holds a run of another configuration (see {CONFIG} there); move it away, or set "
            "runtime.results=FOLDER"
        )
    return over(folder, config)


def over(folder: Path, config: DictConfig) -> bool:
    """Whether the run in its folder is done, which is printed.

    Raises `UserError` where it was made with other data.
    """
    info = _info(folder)
    if info.get("status") not in OVER:
        return False
    check_trace(folder, info)
    recorded = refuse_other_files(folder, info, config)
    print(
        f"{folder}: {info['status']} already, nothing to do{'' if recorded else ' (data not recorded)'}"
    )
    return True


def _holds(folder: Path, numbers: dict[str, Any]) -> bool:
    with suppress(UserError):  # of another run's damaged file
        return (folder / CONFIG).is_file() and _config(folder) == numbers
    return False


def same_run(there: dict[str, Any], identity: Identity) -> bool:
    """Whether a run's config.yaml is that of this identity; one of an older version may lack what
    is at its default.
    """
    if there == identity.config:
        return True
    ours, theirs = flat(identity.config), flat(there)
    lacking = ours.keys() - theirs.keys()
    same = all(ours.get(key, ...) == value for key, value in theirs.items())
    return same and there.keys() == identity.config.keys() and not lacking & identity.differs.keys()


def _info(folder: Path) -> dict[str, Any]:
    """run.json, empty where there is none yet. Raises `UserError` where it is damaged."""
    info = read_info(folder) if (folder / INFO).is_file() else {"status": STATUS[0]}
    if info.get("status") not in STATUS:
        raise damaged(folder / INFO, f"its status is {info.get('status')}")
    return info


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        there = yaml.load(path.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError) as error:
        raise damaged(path, one_line(error)) from error
    if not isinstance(there, dict):
        raise damaged(path, "it is not a table of names and values")
    return there
