"""The values of a configuration, checked by the annotations of the parameters they are for."""

import inspect
import logging
import re
import sys
import traceback
from collections.abc import Collection, Iterator
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf
from pydantic import TypeAdapter, ValidationError

from shine_exp.errors import UserError, no_such_option, one_line
from shine_exp.runs.composition import CONFIG_DIR, CONFIG_GROUPS
from shine_exp.runs.identity import PLACES

# What Hydra would print, a `UserError` says.
logging.getLogger("hydra.utils").addHandler(logging.NullHandler())
OUR_OWN = "shine_exp."
PLAIN = (int, float, bool, str, NoneType)
GIVEN = ("data", "seed", "device")  # what a problem gets of the run, and not of its own node
MAY_BE_EMPTY = ("data", "method")


def check_values(config: DictConfig) -> None:
    """Raises `UserError` for the first option that does not exist or has a wrong value."""
    primary = OmegaConf.load(CONFIG_DIR / "config.yaml")
    others = [str(key) for key in primary if key not in ("defaults", "hydra")]
    _check_names(config, [*CONFIG_GROUPS, *others], "")
    for prefix, node in nodes(config):
        _check_node(config, node, prefix)


def check_groups(config: DictConfig) -> None:
    """Raises `UserError` for a group that nothing is made of, and for its keys."""
    for group in CONFIG_GROUPS:
        node = config[group]
        if "_target_" in node:
            continue
        if isinstance(node.get(group), DictConfig):
            raise UserError(
                f"{group}.{group}: the file of this option has a key {group}, and stands in the "
                f"group {group} itself: make `# @package _global_` its first line, or write "
                f"what is below {group}: without that key"
            )
        if group not in MAY_BE_EMPTY:
            raise UserError(f"{group} has no _target_: name the class or function that makes it")
        if node:
            key = str(next(iter(node)))
            raise UserError(f"{group}.{key}: nothing reads it, since {group} has no _target_")


def check_unidentified(config: DictConfig) -> None:
    """The same for what a run is not known by: it may be wrong though the run is there."""
    _check_node(config, config.runtime, "runtime.")
    if any(key in config.data for key in PLACES):
        _check_node(config, config.data, "data.")


def nodes(node: DictConfig, prefix: str = "") -> Iterator[tuple[str, DictConfig]]:
    """A node and all within it, with their dotted keys.

    What is taken from elsewhere is met there.
    """
    yield prefix, node
    for name in map(str, node):
        if OmegaConf.is_missing(node, name) or OmegaConf.is_interpolation(node, name):
            continue
        if isinstance(node[name], DictConfig):
            yield from nodes(node[name], f"{prefix}{name}.")


def parameters(prefix: str, node: DictConfig) -> dict[str, Any]:
    """The annotation of every parameter of a node's `_target_`; of a node without one none.

    Raises `UserError` where it cannot be imported.
    """
    if "_target_" not in node:
        return {}
    function = located(f"{prefix}_target_", node._target_)
    try:
        names = inspect.signature(function).parameters
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{prefix}_target_={node._target_}: is no class or function with known parameters"
        ) from error
    try:
        hints = get_type_hints(
            function.__init__ if inspect.isclass(function) else function, include_extras=True
        )
    except NameError:  # of a class of the user's own, imported for type checkers only
        hints = {}
    return {name: hints.get(name, Any) for name in names}


def users_modules(config: DictConfig) -> dict[str, str]:
    """Module → file of all that a `_target_` names and that is not ours, where it has a file."""
    targets = {str(node._target_) for _, node in nodes(config) if "_target_" in node}
    made = [located("_target_", target) for target in targets if not target.startswith(OUR_OWN)]
    names = sorted({str(getattr(one, "__module__", "")) for one in made})
    files = {name: getattr(sys.modules.get(name), "__file__", None) for name in names}
    return {name: str(file) for name, file in files.items() if file is not None}


def users_files(config: DictConfig) -> set[str]:
    """The files of `users_modules`."""
    return set(users_modules(config).values())


def located(key: str, target: Any) -> Any:
    """What a dotted name stands for.

    Raises `UserError` where there is none, or its module cannot be imported.
    """
    try:
        made = get_object(str(target))
    except Exception as error:
        cause = error.__cause__ or error
        if str(target).startswith(OUR_OWN) and not isinstance(
            cause, ImportError | AttributeError | ValueError
        ):
            raise  # a bug of ours
        raise UserError(f"{key}={target}: {_why_not(str(target), cause)}") from error
    if inspect.ismodule(made):
        within = [
            name
            for name, one in vars(made).items()
            if getattr(one, "__module__", None) == made.__name__ and not name.startswith("_")
        ]
        such = f", such as {target}.{within[-1]}" if within else f", as {target}.NAME"
        raise UserError(f"{key}={target}: is a module; name a class or function in it{such}")
    return made


def _why_not(target: str, cause: BaseException) -> str:
    """Why it was not imported."""
    module, _, name = target.rpartition(".")
    if isinstance(cause, ModuleNotFoundError) and cause.name == target and module:
        return f"{module} has no {name}"
    if isinstance(cause, ModuleNotFoundError) and cause.name == target.partition(".")[0]:
        return f"no module {cause.name} in the current folder or where Python looks for modules"
    frames = traceback.extract_tb(cause.__traceback__)
    theirs = [
        frame
        for frame in frames
        if not frame.filename.startswith("<") and "hydra" not in frame.filename
    ]
    if isinstance(cause, SyntaxError):  # which names its place itself
        theirs = []
    where = f"{theirs[-1].filename}, line {theirs[-1].lineno}: " if theirs else ""
    return f"cannot be imported: {where}{one_line(cause)}"


def _check_names(node: DictConfig, known: Collection[str], prefix: str) -> None:
    for name in map(str, node):
        if name not in known and not name.startswith("_"):
            raise UserError(no_such_option(f"{prefix}{name}", name, list(dict.fromkeys(known))))


def _check_node(config: DictConfig, node: DictConfig, prefix: str) -> None:
    if "_target_" not in node:
        return
    known = parameters(prefix, node)
    if prefix == "problem.":
        known = {name: annotation for name, annotation in known.items() if name not in GIVEN}
    _check_names(node, known, prefix)
    _check_lacking(node, known, prefix)
    for name in map(str, node):
        if OmegaConf.is_missing(node, name) or name.startswith("_"):
            continue
        value, key = node[name], f"{prefix}{name}"
        if not isinstance(value, DictConfig):
            plain = OmegaConf.to_container(value) if isinstance(value, ListConfig) else value
            _check_value(_source(config, key), plain, known[name])
        elif not value and not OmegaConf.is_interpolation(node, name):
            _check_value(key, {}, known[name])


def _check_lacking(node: DictConfig, known: Collection[str], prefix: str) -> None:
    """Raises `UserError` for a parameter without a default that the node does not have."""
    if any(name in node for name in ("_partial_", "_args_")):
        return
    target = located(f"{prefix}_target_", node._target_)
    for name, parameter in inspect.signature(target).parameters.items():
        if name in known and name not in node and _is_required(parameter):
            if prefix == "method." and inspect.isroutine(target) and name == "system":
                raise UserError(
                    f"method._target_={node._target_}: is called without `system`, for what it "
                    "makes is called with it: name a class with __call__(self, system), "
                    "or add _partial_: true"
                )
            raise UserError(
                f"{prefix}{name}: {node._target_} needs it and it has no value; "
                f"add {name}: … to its YAML, or +{prefix}{name}=… to the command"
            )


def _is_required(parameter: inspect.Parameter) -> bool:
    may_be_empty = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return parameter.default is inspect.Parameter.empty and parameter.kind not in may_be_empty


def _check_value(key: str, value: Any, annotation: Any) -> None:
    if _holds_objects(annotation):
        if value is None:
            # whether it may be left out, the combination of problem, loop and method decides
            return
        raise UserError(
            f"{key}={value}: must be a node with a _target_, such as an option of a group brings"
        )
    try:
        TypeAdapter(annotation).validate_python(value, strict=True)
    except ValidationError as error:
        demands = [
            e["msg"].removeprefix("Input should be ").replace("None", "null")
            for e in error.errors()
        ]
        shown = "null" if value is None else value
        raise UserError(f"{key}={shown}: must be {', or '.join(dict.fromkeys(demands))}") from error


def _holds_objects(annotation: Any) -> bool:
    if get_origin(annotation) is Annotated:
        return _holds_objects(get_args(annotation)[0])
    if annotation is Any or get_origin(annotation) is Literal:
        return False
    arguments = get_args(annotation)
    return any(map(_holds_objects, arguments)) if arguments else annotation not in PLAIN


def _source(config: DictConfig, key: str) -> str:
    """Where the value of a key comes from: the end of a chain of interpolations."""
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    written: Any = OmegaConf.to_container(node, resolve=False)
    link = re.fullmatch(r"\$\{([\w.]+)\}", str(written[name]))
    return _source(config, link[1]) if link else key
