"""`shine-run`: compose a configuration and do what it says."""

import os
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from shine_exp.errors import UserError
from shine_exp.identity import CONFIG_DIR, identify


@hydra.main(config_path=str(CONFIG_DIR), config_name="config", version_base="1.3")
def app(config: DictConfig) -> None:
    try:
        identity = identify(config, dict(HydraConfig.get().runtime.choices))
        from shine_exp.runner import run  # PyTorch: only once the command line is known to be good

        run(config, identity)
    except Exception as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN or user_error(error) is None:
            raise  # a sweep goes on with its other runs and raises at its end
        fail(error)


def main() -> None:
    """The command. Exit code 2 for what the user can mend, 130 where interrupted."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands errors on instead of printing them
    try:
        app()
    except KeyboardInterrupt:
        print("shine-run: interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if user_error(error) is None:
            raise
        fail(error)


def user_error(error: BaseException | None) -> str | None:
    """The message for the user, if the error or one of its causes has one."""
    while error is not None:
        if isinstance(error, MissingConfigException) and error.options:
            return f"{str(error).splitlines()[0]}; there are: {', '.join(error.options)}"
        if isinstance(error, UserError):
            return str(error)
        if isinstance(error, HydraException | OmegaConfBaseException) and error.__cause__ is None:
            return " ".join(line.strip() for line in str(error).splitlines() if line.strip())
        error = error.__cause__
    return None


def fail(error: Exception) -> None:
    print(f"shine-run: {user_error(error)}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
