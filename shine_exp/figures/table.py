"""The table: what each method spends until it is, and stays, within 1 % and 0.1 % of the best
outer loss.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from shine_exp.figures.aggregate import quantiles
from shine_exp.figures.drawing import Drawing, Table
from shine_exp.figures.provenance import Unsolved, data_of, unsolved
from shine_exp.figures.runs import (
    Counts,
    Setting,
    best_end_per_seed,
    by_label,
    count,
    is_finished,
    place,
    setting,
    solved,
)
from shine_exp.runs.run import Run

NAME = "table"
SHARES = (0.01, 0.001)
QUANTITIES = ("time", "products", "held_out")
HEADER = (
    "problem-data", "method", "within", "reached", "time (s)", "products", "held-out loss",
    "diverged", "unfinished", "missing", "unsolved", "data",
)  # fmt: skip

NOTE = (
    "Reached: of the seeds that were started; missing are seeds that other methods have. Median [lowest, highest] over "
    "all finished seeds; one that did not reach it and stay counts as infinite. The best is the lowest outer loss at "
    "the end of any run whose inner problem was solved to its tolerance there; products: gradient evaluations + "
    "Hessian products; unsolved: inner and backward solves that missed their tolerance; data: first digits of its "
    "digest."
)


@dataclass(frozen=True)
class Entry:
    """One label's way to within a share of the best: `arrivals` has a row for each finished seed, infinite where it
    did not get there."""

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


def draw_table(runs: Sequence[Run]) -> Drawing:
    """Two lines for each label of a problem on its data."""
    entries = make_entries(runs)
    if not entries:
        return Drawing(NAME, None)
    lines = (HEADER, *map(_cells, entries))
    return Drawing(
        NAME, None, table=Table(lines, NOTE, pd.DataFrame([_numbers(entry) for entry in entries]))
    )


def make_entries(runs: Sequence[Run]) -> list[Entry]:
    """By problem and data, label, and share; unfinished runs are only counted."""
    best = best_end_per_seed(runs, "outer_loss")
    there: dict[str, list[Run]] = {}
    seeds: dict[Setting, set[int]] = {}
    for run in runs:
        there.setdefault(place(run), []).append(run)
        seeds.setdefault(setting(run), set()).add(run.info["seed"])
    entries = []
    for where, members_there in sorted(there.items()):
        for label, members in by_label(members_there).items():
            counts = count(members, seeds[setting(members[0])])
            missed, data = unsolved(members), data_of(members)
            finished = [run for run in members if is_finished(run)]
            for share in SHARES:
                rows = [
                    _arrival(run, best[setting(run), run.info["seed"]], share) for run in finished
                ]
                arrivals = pd.DataFrame(rows, columns=list(QUANTITIES), dtype=float)
                entries.append(Entry(where, label, share, counts, arrivals, missed, data))
    return entries


def _arrival(run: Run, best: float, share: float) -> tuple[float, float, float]:
    """Time, products and held-out loss at the first step from which on the outer loss is within
    `share` of the best.
    """
    never = (np.inf, np.inf, np.inf)
    if not np.isfinite(best):
        return never
    near = share * abs(best)
    losses = run.trace["outer_loss"].to_numpy()
    within = (best - near <= losses) & (losses <= best + near) & solved(run)
    begin = len(within) - np.logical_and.accumulate(within[::-1]).sum()
    if begin == len(within):
        return never
    names = ("time", "evals", "products", "test_loss")
    time, evals, products, held_out = (run.trace[name].to_numpy()[begin] for name in names)
    return time, evals + products, held_out


def _numbers(entry: Entry) -> dict[str, object]:
    """Each quantity as median, min and max; empty where no seed has finished."""
    counts = entry.counts
    row: dict[str, object] = {
        "problem_data": entry.where,
        "method": entry.label,
        "within": entry.share,
    }
    row |= {"reached": entry.reached, "seeds": counts.started, "diverged": counts.diverged}
    row |= {"unfinished": counts.unfinished, "missing": counts.missing}
    row |= {**entry.unsolved.numbers(), "data": entry.data}
    for quantity in QUANTITIES:
        column = entry.arrivals[quantity]
        row |= {f"{quantity}_{name}": getattr(column, name)() for name in ("median", "min", "max")}
    return row


def _cells(entry: Entry) -> tuple[str, ...]:
    counts = entry.counts
    ranges = (median_range(entry.arrivals[quantity].to_numpy(float)) for quantity in QUANTITIES)
    ended = map(str, (counts.diverged, counts.unfinished, counts.missing, entry.unsolved))
    within = f"{100 * entry.share:g} %"
    return (
        entry.where,
        entry.label,
        within,
        f"{entry.reached} of {counts.started}",
        *ranges,
        *ended,
        entry.data,
    )


def median_range(values: np.ndarray) -> str:
    """Median [lowest, highest], a dash for no values, `inf` alone where all are."""
    if not len(values):
        return "–"
    if np.isinf(values).all():
        return "inf"
    low, median, high = quantiles(values, (0, 0.5, 1))
    return f"{median:.4g} [{low:.4g}, {high:.4g}]"
