"""A run from Python: what `shine-run` does, in this process, and its result as an object."""

from pathlib import Path

from shine_exp.errors import UserError, one_line
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
    with hydra_for(config_dir) as hydra:
        try:
            config = compose(hydra, overrides)
        except Exception as error:  # of Hydra, about an override or a YAML file
            raise UserError(user_error(error) or ours_for(one_line(error, at_most=400))) from error
        refuse_single_run_of_sweep(config.hydra)
        composed = separated(config)
        try:
            from shine_exp.runs import runner

            folder = runner.run(composed.config, composed.choices, verbose)
        except UserError:
            raise
        except Exception as error:
            if (line := user_error(error)) is None:
                raise
            raise UserError(line) from error
    return load_run(folder)
