"""The best loss that any run reached, from which the losses of all others are measured."""

from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from shine_exp.figures.grouping import Setting, setting
from shine_exp.runs.run import Run

BestLosses: TypeAlias = dict[tuple[Setting, int], float]  # by setting and seed; inf for none


def solved(run: Run) -> npt.NDArray[np.bool_]:
    """Which rows of a search have an inner problem that met its tolerance.

    All have, where a trace does not say.
    """
    trace = run.trace
    if not {"inner_residual", "tol"} <= set(trace):
        return np.ones(len(trace), dtype=bool)
    return (trace["inner_residual"] <= trace["tol"]).to_numpy()


def best_passed(runs: Iterable[Run], column: str) -> BestLosses:
    """The lowest finite value of a loss that any run, finished or not, passed.

    An inner problem that was not solved has losses of its own, so its rows do not count.
    """
    return _lowest(runs, column, slice(None))


def best_end(runs: Iterable[Run], column: str) -> BestLosses:
    """The lowest finite loss that any run, finished or not, has come to by its last row.

    On its way a run can pass a lower outer loss than that of any θ*: a loosely solved θ is
    regularised by that too. For the same reason an end counts only where its inner problem was
    solved.
    """
    return _lowest(runs, column, slice(-1, None))


def _lowest(runs: Iterable[Run], column: str, rows: slice) -> BestLosses:
    best: BestLosses = {}
    for run in runs:
        key = (setting(run), run.info["seed"])
        best.setdefault(key, np.inf)
        if column in run.trace:
            values = run.trace[column].to_numpy()[rows]
            usable = np.isfinite(values) & solved(run)[rows]
            best[key] = min(best[key], np.min(values[usable], initial=np.inf))
    return best
