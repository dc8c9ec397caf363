"""A run from Python: what `shine-run` does, in this process, and its result as an object."""

from pathlib import Path

from hydra.errors import MissingConfigException

from shine_exp.errors import UserError, chain, one_line
from shine_exp.runs.composition import compose, hydra_for, refuse_single_run_of_sweep, separated
from shine_exp.runs.messages import ours_for, user_error
from shine_exp.runs.run import Run, load_run


def run(*overrides: str, config_dir: str | Path | None = None, verbose: bool = False) -> Run:
    """What `shine-run` makes of the same overrides, as in `run("method=cg", "seed=3")`.

    The run is made, resumed, or found done in its folder. `config_dir` is `--config-dir`, a folder
    of configurations of your own; the modules that they name must be importable. `verbose` prints
    what the command prints.

    PyTorch has the threads of the run (runtime.threads) until it ends. An interrupt lets the step
    in progress end, saves the run and is raised as KeyboardInterrupt; the same call goes on from
    there. Raises `UserError` for what you can mend.
    """
    for override in overrides:
        _check_override(override)
    with hydra_for(config_dir) as hydra:
        try:
            config = compose(hydra, overrides)
        except Exception as error:  # of Hydra, about an override or a YAML file
            line = user_error(error, overrides) or ours_for(one_line(error, at_most=400))
            if config_dir is None and _misses_a_file(error):
                line += "; one of your own is found with config_dir=FOLDER"
            raise UserError(line) from error
        refuse_single_run_of_sweep(config.hydra)
        composed = separated(config)
        if composed.config.runtime.dry_run:
            raise UserError("runtime.dry_run: is the command's, which prints; run makes a run")
        try:
            from shine_exp.runs import runner

            folder = runner.run(composed.config, composed.choices, verbose)
        except UserError:
            raise
        except Exception as error:
            if (mendable := user_error(error)) is None:
                raise
            raise UserError(mendable) from error
    return load_run(folder)


def _misses_a_file(error: BaseException) -> bool:
    return any(isinstance(link, MissingConfigException) for link in chain(error))


def _check_override(override: object) -> None:
    """Raises `UserError` for what only the command takes, or nothing."""
    if not isinstance(override, str):
        raise UserError(
            f"run({override!r}): takes texts, one for each override, as in "
            'run("problem=logreg", "seed=3"); put * before a list of them'
        )
    if override.startswith("--config-dir"):
        folder = override.partition("=")[2] or "FOLDER"
        raise UserError(f"{override}: is the command's; here it is config_dir={folder!r}")
    if override in ("-m", "--multirun"):
        raise UserError(f"{override}: is the command's; for a sweep call run once for each run")
    if override.startswith("-"):
        raise UserError(f"{override}: is the command's; run takes overrides alone, as NAME=VALUE")
