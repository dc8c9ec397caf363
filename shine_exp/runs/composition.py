"""Composing of configurations: from conf/, and from a folder of the user's own beside it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.default_element import ConfigDefault
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from shine_exp.errors import UserError

PACKAGE = Path(__file__).parent.parent
PLACES_OF_CONF = (PACKAGE / "conf", PACKAGE.parent / "conf")  # in a wheel, in a checkout
CONFIG_DIR = next(path for path in PLACES_OF_CONF if path.is_dir())
CONFIG_GROUPS = ("problem", "data", "solver", "outer", "method")
# Groups that only some options have.
WITHIN = ("problem/model", "problem/cell", "problem/grid", "outer/optimiser", "outer/schedule")


@dataclass(frozen=True)
class Composed:
    """A configuration without Hydra's own part, and which option each group has."""

    config: DictConfig
    choices: dict[str, str]


def separated(config: DictConfig) -> Composed:
    """What Hydra composed, its own part taken out."""
    choices = dict(config.hydra.runtime.choices)
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    return Composed(config, choices)


@contextmanager
def hydra_for(config_dir: str | Path | None = None) -> Iterator[Hydra]:
    """Hydra as the command has it, for use without the command.

    Raises `UserError` where there is no such folder. A Hydra that is at work is put back.
    """
    path = create_config_search_path(str(CONFIG_DIR))
    if config_dir is not None:
        folder = Path(config_dir).expanduser().absolute()
        if not folder.is_dir():
            raise UserError(f"config_dir={config_dir}: no such folder")
        path.prepend(provider="command-line", path=f"file://{folder}")
    of_all, before = GlobalHydra.instance(), GlobalHydra.instance().hydra
    of_all.hydra = None
    try:
        yield Hydra.create_main_hydra2("shine-run", path)
    finally:
        of_all.hydra = before


def compose(hydra: Hydra, overrides: Sequence[str]) -> DictConfig:
    """The configuration of a single run, with Hydra's own part. Raises Hydra's errors."""
    return hydra.compose_config(
        "config", list(overrides), run_mode=RunMode.RUN, with_log_configuration=False
    )


def combinations(overrides: Sequence[str], loader: ConfigLoader | None = None) -> list[list[str]]:
    """The overrides of each run of a sweep: all combinations of what has commas or is a range.

    The `loader` knows the options of a glob. Raises Hydra's errors for what cannot be parsed.
    """
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(overrides))
    (runs,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    return runs


def default(overrides: Sequence[str]) -> Composed:
    """What some options of groups give by themselves, found where the running command looks."""
    with _at_work() as hydra:
        return _default(hydra if _knows_more(hydra) else None, tuple(overrides))


@lru_cache(maxsize=256)  # a sweep has few choices and many runs, and composing takes long
def _default(whose: Hydra | None, overrides: tuple[str, ...]) -> Composed:
    """As the Hydra at work finds it, which is `whose`; None: any that knows our own files alone.

    Those find the same. A folder of the user's own may change between two runs of one process.
    """
    with _at_work() as hydra:
        return separated(compose(hydra, overrides))


def _knows_more(hydra: Hydra) -> bool:
    """Whether it looks into another folder than conf/."""
    searched = hydra.config_loader.get_search_path().get_path()
    of_files = {place.path for place in searched if place.provider not in ("hydra", "schema")}
    return of_files != {str(CONFIG_DIR)}


def options(group: str, beside: dict[str, str], fits: Callable[[DictConfig], bool]) -> list[str]:
    """The options of a group whose node `fits`, composed with the options that stand `beside`.

    One that cannot be composed or asked does not fit.
    """
    others = [f"{name}={option}" for name, option in beside.items() if name != group]
    with _at_work() as hydra:
        names = hydra.config_loader.get_group_options(group, ObjectType.CONFIG)
        return [name for name in names if _fits(hydra, others, group, name, fits)]


def _fits(
    hydra: Hydra,
    others: Sequence[str],
    group: str,
    name: str,
    fits: Callable[[DictConfig], bool],
) -> bool:
    try:
        node = _by_its_files(hydra, group, name)
        if node is None:
            node = default([*others, f"{group}={name}"]).config.get(group)
        return isinstance(node, DictConfig) and fits(node)
    except Exception:  # of a file of the user's own, which is not what was asked for
        return False


def _by_its_files(hydra: Hydra, group: str, name: str) -> DictConfig | None:
    """The node of an option whose files set nothing outside of their group; None for another.

    As Hydra composes it, but without all other groups: that takes a fortieth of the time.
    """
    loader: Any = hydra.config_loader
    found = loader.repository.load_config(f"{group}/{name}")
    if found is None or found.header["package"] is not None:
        return None
    node = OmegaConf.create({})
    for entry in found.defaults_list or [ConfigDefault(path="_self_")]:
        if not isinstance(entry, ConfigDefault) or entry.path is None:
            return None
        own = entry.path == "_self_"
        part = found.config if own else _by_its_files(hydra, group, entry.path)
        if part is None:
            return None
        node.merge_with(part if entry.package is None else {entry.package: part})
    return node


@contextmanager
def _at_work() -> Iterator[Hydra]:
    """The Hydra of the running command, which knows the user's own folder; else a new one."""
    if (hydra := GlobalHydra.instance().hydra) is not None:
        yield hydra
        return
    with hydra_for() as hydra:
        yield hydra


def refuse_single_run_of_sweep(of_hydra: Any) -> None:
    """Raises `UserError` for an experiment that lists its runs, where one run is to be made.

    It may be one of them, where the overrides say which.
    """
    given = {override.partition("=")[0] for override in of_hydra.overrides.task}
    left = [key for key in of_hydra.sweeper.params or () if key not in (*given, "seed")]
    if of_hydra.mode != RunMode.MULTIRUN and left:
        experiment = f"experiment={of_hydra.runtime.choices['experiment']}"
        raise UserError(
            f"{experiment} is a sweep; run it by shine-run -m {experiment}, or choose "
            f"{', '.join(left)}"
        )
