"""Reads the runs below a results folder, and says in one line which file of which run is not what it should be."""

from pathlib import Path

import pandas as pd

from shine_exp.errors import UserError
from shine_exp.trace import INFO, TRACE, Run, damaged, load_runs

INVERSION, THEOREM = "inversion_quality", "theorem"
TRAIN, NETWORK_INVERSION = "train", "network_inversion"
GROWING = ("step", "time", "evals", "products")
AXES = {TRAIN: ("step", "time")}  # what else must not fall
TEXT = ("estimate", "direction")
SEARCH_COLUMNS = (*GROWING, "outer_loss", "test_loss")
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
        "products",
        "fell_back",
        "forward_ms",
        "backward_ms",
    ),
}
STATUSES = ("running", "done", "diverged", "interrupted", "failed")
CHOICES = ("problem", "data", "outer", "method")


def read_runs(root: Path) -> list[Run]:
    """Every run below `root`; raises `UserError` for no folder, no runs, or a file that is not as it should be."""
    if not root.is_dir():
        raise UserError(f"no such results folder: {root}")
    runs = load_runs(root)
    if not runs:
        raise UserError(f"no runs in {root}; make some with: shine-run problem=logreg method=shine")
    for run in runs:
        _check_info(run)
        _check_trace(run)
    return runs


def is_search(run: Run) -> bool:
    """Whether a run moved hyperparameters: neither a study nor the training of a network."""
    return run.info["choices"]["outer"] not in COLUMNS


def _check_info(run: Run) -> None:
    path, info = run.folder / INFO, run.info
    if info.get("status") not in STATUSES:
        raise damaged(path, f"its status is {info.get('status')!r}, not one of: {', '.join(STATUSES)}")
    if not isinstance(info.get("seed"), int) or not isinstance(info.get("differs"), dict):
        raise damaged(path, "seed or differs is missing")
    choices = info.get("choices")
    if not isinstance(choices, dict) or not all(isinstance(choices.get(group), str) for group in CHOICES):
        raise damaged(path, f"choices must name each of: {', '.join(CHOICES)}")


def _check_trace(run: Run) -> None:
    path, trace = run.folder / TRACE, run.trace
    needed = COLUMNS.get(run.info["choices"]["outer"], SEARCH_COLUMNS)
    if lacking := [column for column in needed if column not in trace]:
        raise damaged(path, f"it lacks: {', '.join(lacking)}")
    for column in needed:
        if column not in TEXT and not pd.api.types.is_numeric_dtype(trace[column]):
            raise damaged(path, f"{column} has a value that is not a number")
    for column in GROWING if is_search(run) else AXES.get(run.info["choices"]["outer"], ()):
        if not trace[column].is_monotonic_increasing:
            raise damaged(path, f"{column} has a gap or goes down")
