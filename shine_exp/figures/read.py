"""Finds the runs below a results folder, and says in one line which file of which run is not what
it should be.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from shine_exp.errors import UserError
from shine_exp.figures.runs import is_finished, place
from shine_exp.runs.run import CONFIG, INFO, TRACE, Run, damaged, load_run, run_folders

INVERSION, THEOREM = "inversion_quality", "theorem"
TRAIN, NETWORK_INVERSION = "train", "network_inversion"
GROWING = ("step", "time", "evals", "products")
AXES = {TRAIN: ("step", "time")}  # what else must not fall
TEXT = ("estimate", "direction")
SEARCH_COLUMNS = (*GROWING, "outer_loss", "test_loss")
LATER_COLUMNS = (
    "tol",
    "inner_residual",
    "unsolved_inner",
    "unsolved_backward",
)  # older traces lack some
COLUMNS: dict[str, tuple[str, ...]] = {
    INVERSION: ("step", "time", "estimate", "direction", "cosine", "norm_ratio"),
    THEOREM: ("step", "time", "tol", "estimate", "relative_error", "cosine"),
    NETWORK_INVERSION: ("step", "time", "estimate", "direction", "cosine", "norm_ratio"),
    TRAIN: (
        "step",
        "time",
        "test_loss",
        "accuracy",
        "spectral_radius",
        "forward_residual",
        "backward_residual",
        "converged",
        "products",
        "fell_back",
        "forward_ms",
        "backward_ms",
    ),
}
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


def is_search(run: Run) -> bool:
    """Whether a run moved hyperparameters: neither a study nor the training of a network."""
    return run.info["choices"]["outer"] not in COLUMNS


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
    if run.info["choices"]["outer"] == TRAIN:
        pretrain_steps(run)
    return run


def pretrain_steps(run: Run) -> int:
    """The steps of pre-training as a run is configured.

    Raises `UserError` where there is no such number.
    """
    outer = run.config.get("outer")
    steps = outer.get("pretrain_steps") if isinstance(outer, dict) else None
    if not isinstance(steps, int):
        raise damaged(run.folder / CONFIG, "outer.pretrain_steps is missing")
    return steps


def _without_twins(runs: Iterable[Run]) -> tuple[list[Run], list[UserError]]:
    """The runs that are there once; of two with one configuration and seed nobody knows which is
    meant.
    """
    groups: dict[tuple[object, ...], list[Run]] = {}
    for run in runs:
        outer = run.info["choices"]["outer"]
        kind = outer if outer in COLUMNS else "search"
        differs = tuple(sorted(f"{key}={value}" for key, value in run.info["differs"].items()))
        key = (place(run), kind, run.info["choices"]["method"], differs, run.info["seed"])
        groups.setdefault(key, []).append(run)
    twins = [members for members in groups.values() if len(members) > 1]
    refused = [
        UserError(
            f"{place(first)}, {first.label} has seed {first.info['seed']} twice: {first.folder} and {second.folder}; "
            "move one of them away"
        )
        for first, second, *_ in twins
    ]
    return [members[0] for members in groups.values() if len(members) == 1], refused


def _check_info(run: Run) -> None:
    path, info = run.folder / INFO, run.info
    if info.get("status") not in STATUSES:
        raise damaged(
            path, f"its status is {info.get('status')!r}, not one of: {', '.join(STATUSES)}"
        )
    if type(info.get("seed")) is not int or not isinstance(info.get("differs"), dict):
        raise damaged(path, "seed or differs is missing")
    choices = info.get("choices")
    if not isinstance(choices, dict) or not all(
        isinstance(choices.get(group), str) for group in CHOICES
    ):
        raise damaged(path, f"choices must name each of: {', '.join(CHOICES)}")
    _check_later_info(run)


def _check_later_info(run: Run) -> None:
    """What run.json did not have from the beginning, where it is there."""
    path, unsolved, data = run.folder / INFO, run.info.get("unsolved", {}), run.info.get("data", {})
    if not isinstance(unsolved, dict) or not all(type(count) is int for count in unsolved.values()):
        raise damaged(path, "unsolved is not a table of counts")
    if not isinstance(data, dict) or not isinstance(data.get("digest", ""), str):
        raise damaged(path, "data has no digest that is a text")


def _check_trace(run: Run) -> None:
    path, trace = run.folder / TRACE, run.trace
    needed = COLUMNS.get(run.info["choices"]["outer"], SEARCH_COLUMNS)
    if lacking := [column for column in needed if column not in trace]:
        raise damaged(path, f"it lacks: {', '.join(lacking)}")
    for column in (*needed, *(column for column in LATER_COLUMNS if column in trace)):
        if column not in TEXT and not pd.api.types.is_numeric_dtype(trace[column]):
            raise damaged(path, f"{column} has a value that is not a number")
    for column in GROWING if is_search(run) else AXES.get(run.info["choices"]["outer"], ()):
        if not trace[column].is_monotonic_increasing:
            raise damaged(path, f"{column} has a gap or goes down")
    if is_search(run) and np.any(np.diff(trace["step"]) != 1):
        raise damaged(path, "a step is missing, or there twice")
    if is_finished(run) and trace.empty:
        raise damaged(path, f"it has no row, but the run is {run.info['status']}")
