"""What each method spends until its outer loss is, and stays, near the best."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from shine_exp.figures.best import best_end, solved
from shine_exp.figures.grouping import (
    Counts,
    Setting,
    by_label,
    count,
    is_finished,
    place_of,
    setting,
)
from shine_exp.figures.provenance import Unsolved, data_of, unsolved
from shine_exp.runs.run import Run

SHARES = (0.01, 0.001)  # of the best, within which a run must come and stay
ARRIVAL = ("time", "products", "held_out")


@dataclass(frozen=True)
class WayToBest:
    """One label's way to within a share of the best.

    `arrivals` has a row for each finished seed: what was spent and the held-out loss there,
    infinite where it did not arrive, NaN where a run measures no held-out loss. `excess` has for
    each finished seed how far from the best it ended, |loss − best| / |best|.
    """

    where: str
    label: str
    share: float
    counts: Counts
    arrivals: pd.DataFrame
    excess: pd.Series
    unsolved: Unsolved
    data: str

    @property
    def reached(self) -> int:
        return int(np.isfinite(self.arrivals["time"]).sum())


def ways_to_best(runs: Sequence[Run]) -> list[WayToBest]:
    """By problem and data, label, and share; unfinished runs are only counted."""
    places: dict[str, list[Run]] = {}
    seeds: dict[Setting, set[int]] = {}
    for run in runs:
        places.setdefault(place_of(run), []).append(run)
        seeds.setdefault(setting(run), set()).add(run.info["seed"])
    best = best_end(runs, "outer_loss")
    ways = []
    for where, there in sorted(places.items()):
        if not any("outer_loss" in run.trace for run in there):
            continue
        for label, members in by_label(there).items():
            counts = count(members, seeds[setting(members[0])])
            provenance = unsolved(members), data_of(members)
            finished = [run for run in members if is_finished(run)]
            goals = [best[setting(run), run.info["seed"]] for run in finished]
            excess = pd.Series(map(_excess, finished, goals), dtype=float)
            for share in SHARES:
                rows = [
                    _arrival(run, goal, share) for run, goal in zip(finished, goals, strict=True)
                ]
                arrivals = pd.DataFrame(rows, columns=ARRIVAL, dtype=float)
                ways.append(WayToBest(where, label, share, counts, arrivals, excess, *provenance))
    return ways


def _arrival(run: Run, best: float, share: float) -> tuple[float, float, float]:
    """Time, products and held-out loss at the first step from which on a run stays near the best.

    Near is |loss − best| ≤ share |best|, with an inner problem that is solved to its tolerance.
    """
    trace = run.trace
    never = (np.inf, np.inf, np.inf if "test_loss" in trace else np.nan)
    if "outer_loss" not in trace or not np.isfinite(best):
        return never
    near = share * abs(best)
    losses = trace["outer_loss"].to_numpy()
    within = (best - near <= losses) & (losses <= best + near) & solved(run)
    first = len(within) - np.logical_and.accumulate(within[::-1]).sum()
    if first == len(within):
        return never
    step = trace.iloc[first]
    return step["time"], step["evals"] + step["products"], step.get("test_loss", np.nan)


def _excess(run: Run, best: float) -> float:
    """How far from the best a run ended, relative to it; infinite where nothing compares."""
    if "outer_loss" not in run.trace or not np.isfinite(best) or best == 0:
        return np.inf
    excess = abs(float(run.trace["outer_loss"].iloc[-1]) - float(best)) / abs(float(best))
    return excess if np.isfinite(excess) else np.inf
