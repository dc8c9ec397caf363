"""`shine-run`: compose a configuration and do what it says."""

import atexit
import gc
import io
import os
import re
import sys
import traceback
from collections.abc import Sequence
from functools import partial
from typing import NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import RunMode
from omegaconf import DictConfig

from shine_exp.errors import EndedElsewhere, RunRefused, UserError
from shine_exp.processes import joined, started
from shine_exp.runs.composition import CONFIG_DIR, CONFIG_GROUPS, refuse_single_run_of_sweep
from shine_exp.runs.messages import user_error
from shine_exp.runs.signals import ignore_interrupts, interruptible, silence_stdout
from shine_exp.version import __version__


@hydra.main(config_path=str(CONFIG_DIR), config_name="config", version_base="1.3")
def app(config: DictConfig) -> None:
    try:
        with interruptible():  # a launcher's worker knows only of this function
            refuse_single_run_of_sweep(HydraConfig.get())
            os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # huge pages: PyTorch reads it once
            work(config, dict(HydraConfig.get().runtime.choices))
            sys.stdout.flush()
    except BrokenPipeError:  # `| head` has read enough; the run is done, and a sweep goes on
        silence_stdout()
    except Exception as error:
        line = user_error(error)
        if line is None:
            if HydraConfig.get().mode == RunMode.MULTIRUN:  # whose sweep goes on without a word
                traceback.print_exc()
            raise
        from shine_exp.runs.sweeps.job import folder_of_job, note_refusal

        note_refusal(folder_of_job(HydraConfig.get()), line)
        if HydraConfig.get().mode == RunMode.RUN:
            fail(line)
        print(f"shine-run: {' '.join(HydraConfig.get().overrides.task)}: {line}", file=sys.stderr)
        raise RunRefused(line) from error


def work(config: DictConfig, choices: dict[str, str]) -> None:
    """Make the run, or with runtime.dry_run say what would become of it."""
    if config.runtime.dry_run:
        from shine_exp.runs.dry_run import foretold

        line = foretold(config, choices)
        if started().is_first:
            print(line)
        return
    from shine_exp.runs.runner import run

    run(config, choices)


def main() -> None:
    """The command. Exit code 2 for what the user can mend, 130 where interrupted."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for a terminal without Unicode
    if "--version" in sys.argv[1:]:
        print(f"shine-exp {__version__}")
        return
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands errors on instead of printing them
    try:
        sys.argv[1:] = overrides_last(sys.argv[1:])
        sys.path.append(current_folder())  # where a method of the user's own may stand
        gc.disable()  # nothing that is imported or composed is garbage before the work starts
        add_sweeper(sys.argv[1:])
        with interruptible():  # between the runs of a sweep too
            app()
    except BrokenPipeError:  # of --help
        silence_stdout()
    except KeyboardInterrupt as end:
        why = user_error(end) or "the same command goes on from here"
        # Until Python has ended, which takes a while: one more Ctrl-C would change the exit code.
        atexit.register(ignore_interrupts)
        if started().is_first:
            print(f"shine-run: interrupted; {why}", file=sys.stderr)
        sys.exit(130)
    except EndedElsewhere as end:
        sys.exit(end.code)
    except Exception as error:
        line = user_error(error, sys.argv[1:])
        if line is None:
            raise
        fail_once(line)
    finally:
        gc.unfreeze()
        gc.enable()


def add_sweeper(arguments: Sequence[str]) -> None:
    """Our sweeper and launchers, of which a single run without a word on Hydra has no need."""
    if any(argument.startswith(("-", "hydra")) for argument in arguments):
        from shine_exp.runs.sweeps.sweeper import register

        register(Plugins.instance())


def overrides_last(arguments: Sequence[str]) -> list[str]:
    """The same command with its options before its overrides, as Hydra's parser needs them.

    Raises `UserError`.
    """
    for argument in arguments:
        name = argument.removeprefix("--").partition("=")[0]
        if argument.startswith("--") and name in (*CONFIG_GROUPS, "experiment", "seed", "runtime"):
            raise UserError(f"{argument}: options are written without dashes, {name}=VALUE")
        if not argument.isprintable():
            raise UserError(
                f"{argument!r}: holds characters that cannot be printed or are not UTF-8"
            )
    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    overrides: list[str] = parser.parse_intermixed_args(list(arguments)).overrides
    options = list(arguments)
    for override in overrides:
        options.remove(override)
    return [*options, *map(quoted, overrides)]


def quoted(override: str) -> str:
    """With quotes around letters that Hydra's grammar has no place for: data.path=größe.txt."""
    key, _, value = override.partition("=")
    return (
        override
        if value.isascii() or re.search(r"""['"\\\[\]{}(),$]""", value)
        else f'{key}="{value}"'
    )


def refuse(message: str) -> NoReturn:
    raise UserError(f"{message}; see shine-run --help")


def current_folder() -> str:
    """Raises `UserError` where it was deleted."""
    try:
        return os.getcwd()
    except FileNotFoundError as error:
        raise UserError("the current folder is no longer there; change to another one") from error


def fail_once(line: str) -> None:
    """As all processes of a run do that were started by this command; one of them says why."""
    try:
        with joined("cpu") as all_of_them:
            all_of_them.agreed(partial(_raise, UserError(line)))
    except EndedElsewhere as end:
        sys.exit(end.code)
    except UserError as error:
        fail(str(error))


def _raise(error: UserError) -> NoReturn:
    raise error


def fail(line: str) -> NoReturn:
    print(f"shine-run: {line}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
