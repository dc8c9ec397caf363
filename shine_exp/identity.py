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
    chosen = {group: choices[group] for group in GROUPS}
    resolved = _numbers(OmegaConf.to_container(config, resolve=True))
    return Identity(chosen, config.seed, resolved, _differences(config, chosen))


def _differences(config: DictConfig, choices: dict[str, str]) -> dict[str, Any]:
    """What is not the default: options of groups, by problem and method; then dotted keys → values, by the options."""
    default = _default([f"{group}={choices[group]}" for group in ("problem", "data", "method")])
    usual = default.hydra.runtime.choices
    changed: dict[str, Any] = {group: choices[group] for group in GROUPS if choices[group] != usual[group]}
    if changed:
        default = _default([f"{group}={option}" for group, option in choices.items()])
    plain = _flat(_numbers(OmegaConf.to_container(default, resolve=False)))
    actual = _flat(_numbers(OmegaConf.to_container(config, resolve=False)))
    for key in actual | plain:
        if key != "seed" and plain.get(key, ...) != actual.get(key, ...):
            changed[key] = actual.get(key)
    return changed


def _default(overrides: list[str]) -> DictConfig:
    if GlobalHydra.instance().is_initialized():
        return compose("config", overrides, return_hydra_config=True)
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("config", overrides, return_hydra_config=True)


def _numbers(config: Any) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in ("runtime", "hydra")}


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in config.items():
        leaves |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return leaves
