"""Which run a configuration is: what differs from the defaults, and the folder that it gives."""

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from shine_exp.errors import UserError
from shine_exp.runs.composition import CONFIG_GROUPS, WITHIN, Composed, default

# Where the data lies on this machine: changes none of the numbers, as all of `runtime`.
PLACES = ("cache", "data_home")
# Keys of older versions: what they are called now, and what their values are called there.
RENAMED: dict[str, tuple[str, dict[Any, Any]]] = {
    "outer.learning_rate": ("outer.optimiser.learning_rate", {}),
    "outer.final_learning_rate": ("outer.schedule.final_learning_rate", {}),
    "outer.mixed_precision": ("outer.precision", {False: "float32", True: "bfloat16"}),
}


@dataclass(frozen=True)
class RunIdentity:
    """Which run it is: `config` is resolved and holds only what changes the numbers.

    `choices` are the options of the groups, `differs` what is not the default: groups → options,
    dotted keys → values.
    """

    choices: dict[str, str]
    seed: int
    config: dict[str, Any]
    differs: dict[str, Any]

    @property
    def folder(self) -> Path:
        """<problem>-<data>/<method>/seed=<k>, with a hash of `differs` where anything does.

        What is at its default is not in the hash: a key that a later version adds with its default
        leaves the folder as it is.
        """
        parent = Path(f"{self.choices['problem']}-{self.choices['data']}", self.choices["method"])
        if not self.differs:
            return parent / f"seed={self.seed}"
        leaves = flat(self.config)
        changed = {key: leaves.get(key, value) for key, value in self.differs.items()}
        digest = hashlib.sha256(_text(changed).encode()).hexdigest()
        return parent / f"seed={self.seed}-{digest[:8]}"

    def is_of(self, config: dict[str, Any]) -> bool:
        """Whether the config.yaml of a run is this one's.

        That of an older version may lack what is at its default, and has other names for `RENAMED`.
        """
        if config == self.config:
            return True
        ours = flat(self.config)
        theirs = _in_present_terms(flat(config), ours)
        lacking = ours.keys() - theirs.keys()
        return (
            {"seed", *CONFIG_GROUPS} <= config.keys()
            and all(ours.get(key, ...) == value for key, value in theirs.items())
            and not lacking & self.differs.keys()
        )


def _in_present_terms(leaves: dict[str, Any], known: Collection[str]) -> dict[str, Any]:
    """The leaves of a config.yaml with the keys and values that this version has for them.

    A key that is `known` has kept its name: that of another loop may have changed.
    """
    present = {}
    for key, value in leaves.items():
        name, values = (key, {}) if key in known else RENAMED.get(key, (key, {}))
        present[name] = values.get(value, value) if values else value
    return present


def identify(config: DictConfig, choices: dict[str, str]) -> RunIdentity:
    """The identity of a composed configuration.

    Raises `UserError` for a missing group or value, or a bad seed.
    """
    for group in CONFIG_GROUPS:
        if group not in config and "_target_" in config:
            raise UserError(
                f"{group}={choices.get(group)}: its file says `# @package _global_` and has no key "
                f"{group}: write {group}: above _target_ and what belongs to it, indented, or "
                "leave that line away"
            )
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
    numbers = _numbers(config, resolve=True)
    _text(numbers)
    chosen = {group: choices[group] for group in (*CONFIG_GROUPS, *WITHIN) if group in choices}
    return RunIdentity(chosen, config.seed, numbers, _differences(config, numbers, chosen))


def _text(config: dict[str, Any]) -> str:
    """As JSON, the same for the same content. Raises `UserError` where a table has no order."""
    try:
        return json.dumps(config, sort_keys=True)
    except TypeError as error:
        raise UserError("the keys of one table must all be words, or all be numbers") from error


def _differences(
    config: DictConfig, resolved: dict[str, Any], choices: dict[str, str]
) -> dict[str, Any]:
    """What is not the default: first options of groups, then values of keys.

    The usual options are those that problem, data and method give by themselves, and the usual
    values those of the options.
    """
    usual = default([f"{group}={choices[group]}" for group in ("problem", "data", "method")])
    changed: dict[str, Any] = {
        group: choices[group] for group in choices if choices[group] != usual.choices.get(group)
    }
    if changed:
        usual = default([f"{group}={option}" for group, option in choices.items()])
    plain = flat(_numbers(usual.config, resolve=False)) | {"seed": config.seed}
    actual = flat(_numbers(config, resolve=False))
    if not changed and (actual == plain or resolved == _resolved(usual, config.seed)):
        return {}
    for key in actual | plain:
        if plain.get(key, ...) != actual.get(key, ...):
            changed[key] = actual.get(key)
    return changed


def _resolved(composed: Composed, seed: int) -> dict[str, Any]:
    """With all interpolations resolved, for this seed."""
    composed.config.seed = seed
    return _numbers(composed.config, resolve=True)


def _numbers(config: DictConfig, resolve: bool) -> dict[str, Any]:
    """All but where and how to run, and where on this machine the data lies."""
    numbers: dict[str, Any] = OmegaConf.to_container(config, resolve=resolve)  # type: ignore[assignment]
    numbers.pop("runtime", None)
    numbers["data"] = {key: value for key, value in numbers["data"].items() if key not in PLACES}
    return numbers


def flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """The leaves of nested tables by their dotted keys; an empty table is a leaf."""
    leaves: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict) and value:
            leaves |= flat(value, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves
