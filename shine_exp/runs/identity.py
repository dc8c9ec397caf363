"""Which run a configuration is: what differs from the defaults, and the folder that follows from
it.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from shine_exp.errors import UserError

PACKAGE = Path(__file__).parent.parent
CONFIG_DIR = next(
    path for path in (PACKAGE / "conf", PACKAGE.parent / "conf") if path.is_dir()
)  # wheel, checkout
GROUPS = ("problem", "data", "solver", "outer", "method")
WITHIN = ("problem/model",)  # groups that only some options have
PLACES = (
    "cache",
    "data_home",
)  # of the data on this machine: changes none of the numbers, as all of `runtime`


@dataclass(frozen=True)
class Identity:
    """A run, whatever the time of day: `config` is resolved and holds nothing but what changes its
    numbers.
    """

    choices: dict[str, str]
    seed: int
    config: dict[str, Any]
    differs: dict[str, Any]

    @property
    def folder(self) -> Path:
        """<problem>-<data>/<method>/seed=<k>, with a hash of the configuration where it is not the
        default one.
        """
        default, other = folders(self.config, self.choices)
        return other if self.differs else default


def folders(numbers: dict[str, Any], choices: dict[str, str]) -> tuple[Path, Path]:
    """Where a run lies if its configuration is the default one, and where if it is not."""
    parent = Path(f"{choices['problem']}-{choices['data']}", choices["method"])
    name = f"seed={numbers['seed']}"
    return (
        parent / name,
        parent / f"{name}-{hashlib.sha256(_text(numbers).encode()).hexdigest()[:8]}",
    )


def identify(config: DictConfig, choices: dict[str, str]) -> Identity:
    """The identity of a composed configuration. Raises `UserError` as `known_by` does."""
    numbers = known_by(config)
    chosen = {group: choices[group] for group in (*GROUPS, *WITHIN) if group in choices}
    return Identity(chosen, config.seed, numbers, _differences(config, numbers, chosen))


def known_by(config: DictConfig) -> dict[str, Any]:
    """What changes the numbers of a run.

    Raises `UserError` for a missing group or value, or a bad seed.
    """
    for group in GROUPS:
        if not isinstance(config.get(group), DictConfig):
            raise UserError(
                f"{group}={config.get(group)}: is no option of this group; see shine-run --help"
            )
    missing = OmegaConf.missing_keys(config)
    if missing:
        key = min(missing)
        raise UserError(f"{key} has no value: add {key}=… to the command")
    if type(config.seed) is not int or not 0 <= config.seed < 2**32:
        raise UserError(f"seed={config.seed}: take a whole number, 0 or larger and below 2³²")
    return _numbers(config, resolve=True)


def _text(config: dict[str, Any]) -> str:
    try:
        return json.dumps(config, sort_keys=True)
    except TypeError as error:
        raise UserError("the keys of one table must all be words, or all be numbers") from error


def _differences(
    config: DictConfig, resolved: dict[str, Any], choices: dict[str, str]
) -> dict[str, Any]:
    """What is not the default: options of groups, by problem and method; then dotted keys →
    values, by the options.
    """
    default = _default([f"{group}={choices[group]}" for group in ("problem", "data", "method")])
    changed: dict[str, Any] = {
        group: choices[group] for group in choices if choices[group] != default.choices[group]
    }
    if changed:
        default = _default([f"{group}={option}" for group, option in choices.items()])
    plain, actual = default.flat | {"seed": config.seed}, flat(_numbers(config, resolve=False))
    if not changed and (actual == plain or resolved == default.resolved(config.seed)):
        return {}
    for key in actual | plain:
        if plain.get(key, ...) != actual.get(key, ...):
            changed[key] = actual.get(key)
    return changed


@dataclass(frozen=True)
class _Default:
    """The configuration that some options of groups give: what was chosen in the other groups, and
    its leaves.
    """

    config: DictConfig
    choices: dict[str, str]
    flat: dict[str, Any]

    def resolved(self, seed: int) -> dict[str, Any]:
        """With all interpolations resolved."""
        self.config.seed = seed
        return _numbers(self.config, resolve=True)


def _default(overrides: Sequence[str]) -> _Default:
    if (hydra := GlobalHydra.instance().hydra) is not None:
        return _composed(hydra, tuple(overrides))
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return _composed(GlobalHydra.instance().hydra, tuple(overrides))


@lru_cache(
    maxsize=256
)  # a sweep has few choices and many runs, and composing takes longer than all the rest
def _composed(hydra: Hydra, overrides: tuple[str, ...]) -> _Default:
    config = hydra.compose_config(
        "config", list(overrides), run_mode=RunMode.RUN, with_log_configuration=False
    )
    choices = dict(config.hydra.runtime.choices)
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    return _Default(config, choices, flat(_numbers(config, resolve=False)))


def _numbers(config: DictConfig, resolve: bool) -> dict[str, Any]:
    """All but where and how to run, and where on this machine the data lies."""
    numbers: dict[str, Any] = OmegaConf.to_container(config, resolve=resolve)  # type: ignore[assignment]
    numbers.pop("runtime", None)
    numbers["data"] = {key: value for key, value in numbers["data"].items() if key not in PLACES}
    return numbers


def flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """The leaves of nested tables by their dotted keys."""
    leaves: dict[str, Any] = {}
    for key, value in config.items():
        leaves |= (
            flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
        )
    return leaves
