"""Which runs a figure of the paper needs, by its experiment, and so which of them are missing."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hydra._internal.hydra import Hydra
from hydra.core.object_type import ObjectType
from omegaconf import OmegaConf

from shine_exp.runs.command_line import GROUPS
from shine_exp.runs.composition import combinations, compose, hydra_for, separated
from shine_exp.runs.identity import RunIdentity, identify


@dataclass(frozen=True)
class Figure:
    """An experiment of `conf/experiment/`, and its runs."""

    name: str
    runs: Sequence[RunIdentity]

    @property
    def command(self) -> str:
        return f"shine-run -m experiment={self.name}"


def key_of(choices: Mapping[str, str], differs: Mapping[str, Any], seed: int) -> str:
    """Equal for equal runs. Their folder may have another name, of an earlier version."""
    return json.dumps([[choices[group] for group in GROUPS], differs, seed], sort_keys=True)


def begun_figures(there: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """The figures that at least one of these run.json is of, with all the runs that they need.

    A figure whose runs were made of other data than the experiment names is not among them.
    """
    with hydra_for() as hydra:
        names = hydra.config_loader.get_group_options("experiment", ObjectType.CONFIG)
        return [
            Figure(name, list(_runs(hydra, name)))
            for name in names
            if _is_begun(hydra, name, there)
        ]


def _is_begun(hydra: Hydra, name: str, there: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a run may be of the experiment, by its options and by which keys differ."""
    params = _params(hydra, name)
    options = {group: params[group].split(",") for group in GROUPS if group in params}
    near = [
        info
        for info in there
        if all(info["choices"][group] in allowed for group, allowed in options.items())
    ]
    if not near:  # before anything is composed, which takes long
        return False
    first = _identity(hydra, name, combinations([f"{k}={v}" for k, v in params.items()])[0])
    return any(
        info["differs"].keys() == first.differs.keys()
        and all(info["choices"][g] == first.choices[g] for g in GROUPS if g not in options)
        for info in near
    )


def _runs(hydra: Hydra, name: str) -> Iterator[RunIdentity]:
    """Each combination is composed once, since its seeds change nothing else.

    One of options that stand by themselves is known by them alone.
    """
    params = _params(hydra, name)
    seeds = [
        run[0].removeprefix("seed=") for run in combinations([f"seed={params.pop('seed', 0)}"])
    ]
    swept = combinations([f"{key}={value}" for key, value in params.items()])
    plain = not _identity(hydra, name, swept[0]).differs and params.keys() == {*GROUPS}
    for overrides in swept:
        if plain:
            choices = dict(override.split("=") for override in overrides)
            identity = RunIdentity(choices, 0, {}, {})
        else:
            identity = _identity(hydra, name, overrides)
        yield from (replace(identity, seed=int(seed)) for seed in seeds)


def _params(hydra: Hydra, name: str) -> dict[str, str]:
    """What the experiment sweeps over."""
    loader: Any = hydra.config_loader
    config = loader.repository.load_config(f"experiment/{name}").config
    params = OmegaConf.select(config, "hydra.sweeper.params") or {}
    return {str(key): str(value) for key, value in params.items()}


def _identity(hydra: Hydra, name: str, overrides: Sequence[str]) -> RunIdentity:
    composed = separated(compose(hydra, [f"experiment={name}", *overrides]))
    return identify(composed.config, composed.choices)
