"""What a command would do, for runtime.dry_run: no data are loaded, and nothing is written."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from shine_exp.errors import UserError
from shine_exp.runs.identity import RunIdentity, identify
from shine_exp.runs.run import CONFIG, read_config
from shine_exp.runs.runner import found, other_run
from shine_exp.runs.state import State, state_of


def foretold(config: DictConfig, choices: dict[str, str]) -> str:
    """What would become of a run, in a line with its folder.

    Raises `UserError` for one that would be refused, as far as that can be known without its data.
    """
    folder, done = found(config, choices, verbose=False)
    run = state_of(folder)
    if done:
        return f"{folder}: {run.state} already"
    from shine_exp.runs.compatibility import check_classes, check_objects
    from shine_exp.runs.validation import check_values

    check_classes(config, choices)
    check_values(config)
    check_objects(config, choices)
    identity = identify(config, choices)
    if (folder / CONFIG).is_file() and not identity.is_of(read_config(folder)):
        raise other_run(folder)
    if run.state is State.RUNNING:
        return f"{folder}: left to the process that is at work on it ({run.place})"
    step = _step(folder, identity)
    return f"{folder}: new" if step is None else f"{folder}: resumes after step {step}"


def _step(folder: Path, identity: RunIdentity) -> int | None:
    """Where the run would go on; None from the start."""
    from shine_exp.runs.checkpoint import load
    from shine_exp.runs.resume import refuse_other_configuration

    saved = load(folder, "cpu")
    if saved is None:
        return None
    refuse_other_configuration(folder, identity, saved)
    step: Any = saved.state.get("step")
    if type(step) is not int:
        raise UserError(f"{folder}: its checkpoint has no step; delete it to start the run anew")
    return step
