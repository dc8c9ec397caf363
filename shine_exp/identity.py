"""Which run a configuration is: what differs from the defaults, and the folder that follows from it."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from shine_exp.errors import UserError

CONFIG_DIR = next(
    path for path in (Path(__file__).parent / "conf", Path(__file__).parent.parent / "conf") if path.is_dir()
)
GROUPS = ("problem", "data", "solver", "outer", "method")
WITHIN = ("problem/model",)  # groups that only some options have


@dataclass(frozen=True)
class Identity:
    """A run, whatever the time of day: `config` is resolved and holds nothing but what changes its numbers."""

    choices: dict[str, str]
    seed: int
    config: dict[str, Any]
    differs: dict[str, Any]

    @property
    def folder(self) -> Path:
        """<problem>-<data>/<method>/seed=<k>, with a hash of the configuration where it is not the default one."""
        name = f"seed={self.seed}"
        if self.differs:
            name += "-" + hashlib.sha256(json.dumps(self.config, sort_keys=True).encode()).hexdigest()[:8]
        return Path(f"{self.choices['problem']}-{self.choices['data']}", self.choices["method"], name)


def identify(config: DictConfig, choices: dict[str, str]) -> Identity:
    """The identity of a composed configuration. Raises `UserError` for a missing value or a bad seed."""
    missing = OmegaConf.missing_keys(config)
    if missing:
        key = min(missing)
        raise UserError(f"{key} has no value: add {key}=… to the command")
    if type(config.seed) is not int or not 0 <= config.seed < 2**32:
        raise UserError(f"seed={config.seed}: take a whole number, 0 or larger and below 2³²")
    chosen = {group: choices[group] for group in (*GROUPS, *WITHIN) if group in choices}
    return Identity(chosen, config.seed, _resolved(config), _differences(config, chosen))


def _differences(config: DictConfig, choices: dict[str, str]) -> dict[str, Any]:
    """What is not the default: options of groups, by problem and method; then dotted keys → values, by the options."""
    seed = f"seed={config.seed}"
    default = _default([seed, *(f"{group}={choices[group]}" for group in ("problem", "data", "method"))])
    usual = default.hydra.runtime.choices
    changed: dict[str, Any] = {group: choices[group] for group in choices if choices[group] != usual[group]}
    if changed:
        default = _default([seed, *(f"{group}={option}" for group, option in choices.items())])
    elif _resolved(config) == _resolved(default):
        return {}
    plain, actual = (_flat(_numbers(c, resolve=False)) for c in (default, config))
    for key in actual | plain:
        if plain.get(key, ...) != actual.get(key, ...):
            changed[key] = actual.get(key)
    return changed


def _default(overrides: list[str]) -> DictConfig:
    if GlobalHydra.instance().is_initialized():
        return compose("config", overrides, return_hydra_config=True)
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("config", overrides, return_hydra_config=True)


def _resolved(config: DictConfig) -> dict[str, Any]:
    return _numbers(config, resolve=True)


def _numbers(config: DictConfig, resolve: bool) -> dict[str, Any]:
    """All but where and how to run, and where on this machine the data lies."""
    masked = OmegaConf.masked_copy(config, [str(key) for key in config if key not in ("runtime", "hydra")])
    numbers: dict[str, Any] = OmegaConf.to_container(masked, resolve=resolve)  # type: ignore[assignment]
    numbers["data"] = {key: value for key, value in numbers["data"].items() if key not in ("cache", "data_home")}
    return numbers


def _flat(config: Any, prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in config.items():
        leaves |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return leaves
