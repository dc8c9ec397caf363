"""The problem of a run: what its `_target_` makes, and making it.

    problem = target(data=…, seed=…, device=…, **its own options)

Of data, seed and device it gets those that the signature of the target names.
"""

import inspect
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from shine_exp.errors import UserError
from shine_exp.runs.validation import GIVEN, located, parameters


def kind_of(config: DictConfig, group: str) -> type:
    """The class that a group's `_target_` makes: itself, or what a function is annotated to return.

    Raises `UserError` for a function that does not say.
    """
    target = config[group]._target_
    made = located(f"{group}._target_", target)
    if inspect.isclass(made):
        return made
    returned = _return_annotation(made)
    if not inspect.isclass(returned):
        needed = "BilevelProblem" if group == "problem" else "Dataset"
        raise UserError(
            f"{group}._target_={target}: annotate the class that it returns, "
            f"as in def {target.rpartition('.')[2]}(…) -> {needed}"
        )
    return returned


def _return_annotation(function: Any) -> Any:
    try:
        return inspect.get_annotations(function, eval_str=True).get("return")
    except NameError:  # imported for type checkers only
        return None


def data_kind(config: DictConfig) -> Any:
    """The annotation of the problem's parameter `data`; None where it has no such parameter.

    Raises `UserError` for one without annotation.
    """
    known = parameters("problem.", config.problem)
    if "data" not in known:
        return None
    if known["data"] is Any:
        raise UserError(
            f"problem._target_={config.problem._target_}: annotate its parameter data, as in "
            "data: Dataset (shine_exp.data.dataset) or data: Images (shine_exp.data.images)"
        )
    return known["data"]


def load(config: DictConfig) -> tuple[Any, str | None]:
    """The problem, and the digest of its data where it has any.

    Raises `UserError` for data that cannot be read, or that the problem cannot use.
    """
    run: dict[str, Any] = {"seed": config.seed, "device": config.runtime.device}
    digest = None
    if "_target_" in config.data:
        run["data"] = _of_kind(config, "data", instantiate(config.data))
        digest = getattr(run["data"], "digest", None)
    known = parameters("problem.", config.problem)
    given = {name: run[name] for name in GIVEN if name in known and name in run}
    made = instantiate(config.problem, _partial_=True)(**given)
    return _of_kind(config, "problem", made), digest


def _of_kind(config: DictConfig, group: str, made: Any) -> Any:
    """What was made, if it is what the annotation promised. Raises `UserError` where it is not."""
    kind, target = kind_of(config, group), config[group]._target_
    if isinstance(made, kind):
        return made
    if made is None:
        found = f"None; end it with: return {kind.__name__}(…)"
    elif inspect.isclass(made):
        found = f"the class {made.__name__}, and must return an object of it: {made.__name__}(…)"
    else:
        found = f"an object of {type(made).__name__}, and is annotated to return {kind.__name__}"
    raise UserError(f"{group}._target_={target}: returns {found}")
