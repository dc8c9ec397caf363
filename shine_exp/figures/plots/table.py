"""The table of what each method spends until it is, and stays, near the best outer loss."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from shine_exp.figures.best import best_end, solved
from shine_exp.figures.drawing import Drawing, Table
from shine_exp.figures.grouping import (
    Counts,
    Setting,
    by_label,
    count,
    is_finished,
    place_of,
    setting,
)
from shine_exp.figures.kinds import is_search
from shine_exp.figures.plot import Options, Plot
from shine_exp.figures.provenance import Unsolved, data_of, unsolved
from shine_exp.figures.summaries import NOTHING, median_columns, median_range
from shine_exp.runs.run import Run

SHARES = (0.01, 0.001)  # of the best, within which a run must come and stay
COSTS = {"time": "time (s)", "products": "products"}
HELD_OUT = {"held_out": "held-out loss"}
NOTE = (
    "Reached: of the seeds that were started; missing are seeds that other methods have. Median "
    "[lowest, highest] over all finished seeds; one that did not reach it and stay counts as "
    "infinite. The best is the lowest outer loss at the end of any run whose inner problem was "
    "solved to its tolerance there; products: gradient evaluations + Hessian products; unsolved: "
    "inner and backward solves that missed their tolerance; data: first digits of its digest."
)


@dataclass(frozen=True)
class WayToBest:
    """One label's way to within a share of the best.

    `arrivals` has a row for each finished seed: what was spent and the held-out loss there,
    infinite where it did not arrive, NaN where a run measures no held-out loss.
    """

    where: str
    label: str
    share: float
    counts: Counts
    arrivals: pd.DataFrame
    unsolved: Unsolved
    data: str

    @property
    def reached(self) -> int:
        return int(np.isfinite(self.arrivals["time"]).sum())


class CostTable(Plot):
    """Two lines for each label of a problem on its data.

    A place whose runs have no outer loss is left out, as is the held-out loss where no run has it.
    """

    name = "table"
    claim = "time and products that searches over α take; goes with their figures"

    def reads(self, run: Run) -> bool:
        return is_search(run)

    def draw(self, runs: Sequence[Run], options: Options) -> Drawing:
        ways = ways_to_best(runs)
        if not ways:
            return Drawing(self.name, None)
        quantities = COSTS | (HELD_OUT if any("test_loss" in run.trace for run in runs) else {})
        header = (
            *("problem-data", "method", "within", "reached", *quantities.values()),
            *("diverged", "unfinished", "missing", "unsolved", "data"),
        )
        lines = (header, *(_cells(way, list(quantities)) for way in ways))
        data = pd.DataFrame([_numbers(way, list(quantities)) for way in ways])
        return Drawing(self.name, None, table=Table(lines, NOTE, data))


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
            for share in SHARES:
                rows = [
                    _arrival(run, best[setting(run), run.info["seed"]], share) for run in finished
                ]
                arrivals = pd.DataFrame(rows, columns=[*COSTS, *HELD_OUT], dtype=float)
                ways.append(WayToBest(where, label, share, counts, arrivals, *provenance))
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


def _cells(way: WayToBest, quantities: Sequence[str]) -> tuple[str, ...]:
    counts = way.counts
    return (
        way.where,
        way.label,
        f"{100 * way.share:g} %",
        f"{way.reached} of {counts.started}",
        *(_spread(way.arrivals[name]) for name in quantities),
        *map(str, (counts.diverged, counts.unfinished, counts.missing, way.unsolved)),
        way.data,
    )


def _spread(values: pd.Series) -> str:
    return NOTHING if values.isna().all() else median_range(values.to_numpy(float))


def _numbers(way: WayToBest, quantities: Sequence[str]) -> dict[str, object]:
    """Each quantity as median, min and max; empty where no seed has finished."""
    counts = way.counts
    return {
        "problem_data": way.where,
        "method": way.label,
        "within": way.share,
        "reached": way.reached,
        "seeds": counts.started,
        "diverged": counts.diverged,
        "unfinished": counts.unfinished,
        "missing": counts.missing,
        **way.unsolved.numbers(),
        "data": way.data,
        **median_columns(way.arrivals, quantities),
    }
