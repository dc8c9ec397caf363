"""Runs that train on Sudokus: what each backward pass is worth in a network, seed by seed."""

from collections.abc import Iterable

import pandas as pd

from shine_exp.figures.grouping import natural
from shine_exp.figures.kinds import is_training
from shine_exp.figures.networks import by_network, configured
from shine_exp.runs.run import Run

STEPS_KEYS = {  # where a method's number of backward steps is configured
    "full_limited": "method.max_steps",
    "refine": "method.steps.max_steps",
    "refine_jf": "method.steps.max_steps",
}
COLUMNS = (
    *("seed", "whole_grids", "whole_grids_longer", "gradient_cosine"),
    *("spectral_radius", "products", "backward_ms"),
)


def is_sudoku(run: Run) -> bool:
    return is_training(run) and bool(run.info["choices"]["problem"] == "sudoku")


def by_backward_pass(runs: Iterable[Run]) -> dict[str, dict[str, pd.DataFrame]]:
    """Title of a network → backward pass → a row for each run that is done, with `COLUMNS`.

    A backward pass is a method, with its number of steps where that can be chosen. Whole grids, in
    percent, and ρ are those of the last epoch; the rest are medians over the epochs.
    """
    networks: dict[str, dict[str, pd.DataFrame]] = {}
    for network in by_network(runs):
        rows: dict[str, list[dict[str, float]]] = {}
        for run in network.all_runs:
            if run.status == "done" and len(run.trace):
                rows.setdefault(_backward_pass(run), []).append(_row(run))
        if rows:
            networks[network.title] = {
                name: pd.DataFrame(found, columns=COLUMNS).sort_values("seed", ignore_index=True)
                for name, found in sorted(rows.items(), key=natural)
            }
    return networks


def _backward_pass(run: Run) -> str:
    method = str(run.info["choices"]["method"])
    if method not in STEPS_KEYS:
        return method
    return f"{method} {configured(run, STEPS_KEYS[method])}"


def _row(run: Run) -> dict[str, float]:
    last, medians = run.trace.iloc[-1], run.trace.median(numeric_only=True)
    ends = {name: float(last[name]) for name in ("whole_grids", "whole_grids_longer")}
    typical = ("gradient_cosine", "products", "backward_ms")
    return {
        "seed": run.info["seed"],
        **{name: 100 * share for name, share in ends.items()},
        "spectral_radius": float(last.get("spectral_radius", float("nan"))),
        # An unrolled network makes no products.
        **{name: float(medians.get(name, float("nan"))) for name in typical},
    }
