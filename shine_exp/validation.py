"""The values of a configuration against the annotations of the parameters they are for: refused before any work."""

import inspect
import re
from collections.abc import Collection
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf
from pydantic import TypeAdapter, ValidationError

from shine_exp.errors import UserError
from shine_exp.identity import CONFIG_DIR, GROUPS

PLAIN = (int, float, bool, str, NoneType)


def check_values(config: DictConfig) -> None:
    """Raises `UserError` for the first option that does not exist, or whose value it does not take."""
    primary = OmegaConf.load(CONFIG_DIR / "config.yaml")
    _check_names(config, [*GROUPS, *(str(key) for key in primary if key not in ("defaults", "hydra"))], "")
    _check_names(config.method, list(map(str, primary.method)), "method.")
    _check_node(config, config, "")


def _check_names(node: DictConfig, known: Collection[str], prefix: str) -> None:
    for name in map(str, node):
        if name not in known and not name.startswith("_"):
            raise UserError(f"{prefix}{name}: no such option; there are: {', '.join(dict.fromkeys(known))}")


def _check_node(config: DictConfig, node: DictConfig, prefix: str) -> None:
    parameters = _parameters(node._target_) if "_target_" in node else None
    if parameters is not None:
        _check_names(node, parameters, prefix)
    for name in map(str, node):
        if OmegaConf.is_missing(node, name) or name.startswith("_"):
            continue
        key, value = f"{prefix}{name}", node[name]
        if isinstance(value, DictConfig):
            if not OmegaConf.is_interpolation(node, name):  # what is taken from elsewhere is checked there
                _check_node(config, value, f"{key}.")
        elif parameters is not None:
            plain = OmegaConf.to_container(value) if isinstance(value, ListConfig) else value
            _check_value(_source(config, key), plain, parameters[name])


def _parameters(target: str) -> dict[str, Any]:
    """The annotation of every parameter of a class or function."""
    function = get_object(target)
    hints = get_type_hints(function.__init__ if inspect.isclass(function) else function, include_extras=True)
    return {name: hints.get(name, Any) for name in inspect.signature(function).parameters}


def _check_value(key: str, value: Any, annotation: Any) -> None:
    if _holds_objects(annotation):
        if value is None:
            return  # whether it may be left out, the combination of problem, loop and method decides
        raise UserError(f"{key}={value}: must be a node with a _target_, such as an option of a group brings")
    try:
        TypeAdapter(annotation).validate_python(value, strict=True)
    except ValidationError as error:
        demands = [e["msg"].removeprefix("Input should be ").replace("None", "null") for e in error.errors()]
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
