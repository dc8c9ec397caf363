"""Which runs a figure of the paper needs, by its experiment, and so which of them are missing."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
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
        experiments = [_load(hydra, name) for name in names]
    return [Figure(one.name, list(_runs(one))) for one in experiments if _is_begun(one, there)]


@dataclass(frozen=True)
class Experiment:
    """A file of `conf/experiment/`: the options that it settles, and what it sweeps over."""

    name: str
    overridden: Mapping[str, str]
    params: Mapping[str, str]


def _load(hydra: Hydra, name: str) -> Experiment:
    loader: Any = hydra.config_loader
    found = loader.repository.load_config(f"experiment/{name}")
    entries = [entry for entry in found.defaults_list or () if entry.is_override()]
    overridden = {entry.group.lstrip("/"): entry.value for entry in entries}
    params = OmegaConf.select(found.config, "hydra.sweeper.params") or {}
    return Experiment(name, overridden, {str(key): str(value) for key, value in params.items()})


def _is_begun(experiment: Experiment, there: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a run may be of the experiment, by its options and by which keys differ."""
    settled = {**experiment.overridden, **experiment.params}
    options = {group: settled[group].split(",") for group in GROUPS if group in settled}
    near = [
        info
        for info in there
        if all(info["choices"][group] in allowed for group, allowed in options.items())
    ]
    if not near:  # before anything is composed, which takes long
        return False
    params = [f"{key}={value}" for key, value in experiment.params.items()]
    first = _identity(experiment.name, *combinations(params)[0])
    return any(
        info["differs"].keys() == first.differs.keys()
        and all(info["choices"][g] == first.choices[g] for g in GROUPS if g not in options)
        for info in near
    )


def _runs(experiment: Experiment) -> Iterator[RunIdentity]:
    """Each combination is composed once, since its seeds change nothing else.

    One of options that stand by themselves is known by them alone.
    """
    params = dict(experiment.params)
    seeds = [
        run[0].removeprefix("seed=") for run in combinations([f"seed={params.pop('seed', 0)}"])
    ]
    swept = combinations([f"{key}={value}" for key, value in params.items()])
    plain = not _identity(experiment.name, *swept[0]).differs and params.keys() == {*GROUPS}
    for overrides in swept:
        if plain:
            choices = dict(override.split("=") for override in overrides)
            identity = RunIdentity(choices, 0, {}, {})
        else:
            identity = _identity(experiment.name, *overrides)
        yield from (replace(identity, seed=int(seed)) for seed in seeds)


@cache  # composing takes long, and a table that is watched asks again and again
def _identity(experiment: str, *overrides: str) -> RunIdentity:
    with hydra_for() as hydra:
        composed = separated(compose(hydra, [f"experiment={experiment}", *overrides]))
        return identify(composed.config, composed.choices)
