"""`shine-run`: compose a configuration and do what it says."""

import os
import re
import sys
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from shine_exp.errors import UserError
from shine_exp.identity import CONFIG_DIR, GROUPS
from shine_exp.signals import interruptible, silence_stdout

OURS = (  # messages in place of Hydra's
    (r"Could not override '(.+?)'\..*", r"\1: no such option; see shine-run --help"),
    (r"Ambiguous value for argument '(.+?)' 1\..*", r"\1: more than one value; add -m to run each of them"),
)


@hydra.main(config_path=str(CONFIG_DIR), config_name="config", version_base="1.3")
def app(config: DictConfig) -> None:
    try:
        with interruptible():  # a launcher's worker knows only of this function
            refuse_single_run_of_sweep(HydraConfig.get())
            os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # huge pages: PyTorch reads it once
            from shine_exp.runner import run  # PyTorch: only once the command line is known to compose

            run(config, dict(HydraConfig.get().runtime.choices))
            sys.stdout.flush()
    except BrokenPipeError:  # `| head` has read enough; the run is done, and a sweep goes on
        silence_stdout()
    except Exception as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN or user_error(error) is None:
            raise  # a sweep goes on with its other runs and raises at its end
        fail(error)


def main() -> None:
    """The command. Exit code 2 for what the user can mend, 130 where interrupted."""
    for option in sys.argv[1:]:
        name = option.removeprefix("--").partition("=")[0]
        if option.startswith("--") and name in (*GROUPS, "experiment", "seed", "runtime"):
            fail(UserError(f"{option}: options are written without dashes, {name}=VALUE"))
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands errors on instead of printing them
    try:
        with interruptible():  # between the runs of a sweep too
            app()
    except KeyboardInterrupt as end:
        why = user_error(end) or "the same command goes on from here"
        print(f"shine-run: interrupted; {why}", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if user_error(error) is None:
            raise
        fail(error)


def refuse_single_run_of_sweep(hydra_config: Any) -> None:
    """Raises `UserError` for an experiment that lists its runs, given without -m and without saying which of them."""
    given = {override.partition("=")[0] for override in hydra_config.overrides.task}
    left = [key for key in hydra_config.sweeper.params or () if key not in (*given, "seed")]
    if hydra_config.mode == RunMode.RUN and left:
        experiment = f"experiment={hydra_config.runtime.choices['experiment']}"
        raise UserError(f"{experiment} is a sweep; run it by shine-run -m {experiment}, or choose {', '.join(left)}")


def user_error(error: BaseException) -> str | None:
    """One line for the user: the error's own message where it is a `UserError` or Hydra's, or was caused by one."""
    chain = [error]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    for link in chain:
        if isinstance(link, UserError):
            return str(link)
    for link in chain:
        if isinstance(link, MissingConfigException) and link.options:
            options = ", ".join(option for option in link.options if not option.startswith("_"))
            return f"{str(link).splitlines()[0]}; there are: {options}"
        if isinstance(link, HydraException | OmegaConfBaseException):
            message = " ".join(line.strip() for line in str(link).splitlines() if line.strip())
            return next((found.expand(ours) for hydras, ours in OURS if (found := re.match(hydras, message))), message)
    return None


def fail(error: Exception) -> None:
    print(f"shine-run: {user_error(error)}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
