"""The runs below a results folder, and which file of which run is not what it should be."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from shine_exp.errors import UserError
from shine_exp.figures.grouping import is_finished, place_of
from shine_exp.figures.kinds import OPTIONAL, SEARCH, TEXT, is_search, is_training, kind_of
from shine_exp.figures.networks import pretrain_steps
from shine_exp.runs.run import INFO, TRACE, Run, damaged, load_run, run_folders

STATUSES = ("running", "done", "diverged", "interrupted", "failed")
CHOICES = ("problem", "data", "outer", "method")

T = TypeVar("T")


@dataclass(frozen=True)
class Reading:
    """The runs that can be used, and for each that cannot the reason."""

    runs: list[Run]
    refused: list[UserError]


def find_runs(root: Path) -> Reading:
    """Every run below `root`, by its run.json. Raises `UserError` for no folder, or no runs."""
    if not root.is_dir():
        raise UserError(f"no such results folder: {root}")
    folders = run_folders(root)
    if not folders:
        raise UserError(f"no runs in {root}; make some with: shine-run problem=logreg method=shine")
    found = _sift(folders, _load)
    runs, twins = _without_twins(found.runs)
    return Reading(runs, found.refused + twins)


def read_traces(runs: Iterable[Run]) -> Reading:
    """Read and check what the figures take from each run, beside its run.json."""
    return _sift(runs, _read)


def _sift(items: Iterable[T], read: Callable[[T], Run]) -> Reading:
    runs, refused = [], []
    for item in items:
        try:
            runs.append(read(item))
        except UserError as error:
            refused.append(error)
    return Reading(runs, refused)


def _load(folder: Path) -> Run:
    run = load_run(folder)
    _check_info(run)
    return run


def _read(run: Run) -> Run:
    _check_trace(run)
    if is_training(run):
        pretrain_steps(run)  # raises where config.yaml is damaged
    return run


def _without_twins(runs: Iterable[Run]) -> tuple[list[Run], list[UserError]]:
    """The runs that are there once, and an error for each that is there twice.

    Of two with one configuration and seed nobody knows which is meant.
    """
    groups: dict[tuple[object, ...], list[Run]] = {}
    for run in runs:
        # `method=grid` and `outer=grid method=grid` are one search, whatever the loop is called.
        kind = SEARCH if is_search(run) else run.info["choices"]["outer"]
        changes = tuple(sorted(f"{key}={value}" for key, value in run.info["differs"].items()))
        key = (place_of(run), kind, run.info["choices"]["method"], changes, run.info["seed"])
        groups.setdefault(key, []).append(run)
    refused = []
    for first, *others in groups.values():
        if others:
            twice = f"{place_of(first)}, {first.label} has seed {first.info['seed']} twice"
            folders = f"{first.folder} and {others[0].folder}"
            refused.append(UserError(f"{twice}: {folders}; move one of them away"))
    return [first for first, *others in groups.values() if not others], refused


def _check_info(run: Run) -> None:
    path, info = run.folder / INFO, run.info
    if info.get("status") not in STATUSES:
        known = ", ".join(STATUSES)
        raise damaged(path, f"its status is {info.get('status')!r}, not one of: {known}")
    if type(info.get("seed")) is not int or not isinstance(info.get("differs"), dict):
        raise damaged(path, "seed or differs is missing")
    choices = info.get("choices")
    named = isinstance(choices, dict) and all(isinstance(choices.get(one), str) for one in CHOICES)
    if not named:
        raise damaged(path, f"choices must name each of: {', '.join(CHOICES)}")
    # What run.json did not have from the beginning is checked where it is there.
    unsolved, data = info.get("unsolved", {}), info.get("data") or {}
    if not isinstance(unsolved, dict) or not all(type(count) is int for count in unsolved.values()):
        raise damaged(path, "unsolved is not a table of counts")
    if not isinstance(data, dict) or not isinstance(data.get("digest"), str | None):
        raise damaged(path, "data has no digest that is a text")


def _check_trace(run: Run) -> None:
    path, trace, kind = run.folder / TRACE, run.trace, kind_of(run)
    if lacking := [column for column in kind.columns if column not in trace]:
        raise damaged(path, f"it lacks: {', '.join(lacking)}")
    for column in (*kind.columns, *(column for column in OPTIONAL if column in trace)):
        if column not in TEXT and not pd.api.types.is_numeric_dtype(trace[column]):
            raise damaged(path, f"{column} has a value that is not a number")
    for column in kind.never_fall:
        if not trace[column].is_monotonic_increasing:
            raise damaged(path, f"{column} has a gap or goes down")
    if is_search(run) and np.any(np.diff(trace["step"]) != 1):
        raise damaged(path, "a step is missing, or there twice")
    if is_finished(run) and trace.empty:
        raise damaged(path, f"it has no row, but the run is {run.info['status']}")
