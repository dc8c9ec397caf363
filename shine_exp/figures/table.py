"""The table: what each method spends until it is, and stays, within 1 % and 0.1 % of the best outer loss."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from shine_exp.figures.drawing import Drawing, Table
from shine_exp.figures.runs import Counts, best_end_per_seed, by_label, count, is_finished, place, seeds_of, setting
from shine_exp.trace import Run

NAME = "table"
SHARES = (0.01, 0.001)
QUANTITIES = ("time", "products", "held_out")
HEADER = (
    "problem-data", "method", "within", "reached", "time (s)", "products", "held-out loss",
    "diverged", "unfinished", "missing",
)  # fmt: skip

NOTE = (
    "Median [lowest, highest] of the seeds that reached it and stayed; the best is the lowest outer loss at the end of "
    "any run; products: gradient evaluations + Hessian products."
)


@dataclass(frozen=True)
class Entry:
    """One label's way to within a share of the best: `arrivals` has a row for each seed that got there."""

    where: str
    label: str
    share: float
    counts: Counts
    arrivals: pd.DataFrame


def draw_table(runs: Sequence[Run]) -> Drawing:
    """Two lines for each label of a problem on its data."""
    entries = make_entries(runs)
    if not entries:
        return Drawing(NAME, None)
    lines = (HEADER, *map(_cells, entries))
    return Drawing(NAME, None, table=Table(lines, NOTE, pd.DataFrame([_numbers(entry) for entry in entries])))


def make_entries(runs: Sequence[Run]) -> list[Entry]:
    """By problem and data, label, and share; unfinished runs are only counted."""
    best = best_end_per_seed(runs, "outer_loss")
    entries = []
    for where in sorted({place(run) for run in runs}):
        there = [run for run in runs if place(run) == where]
        for label, members in by_label(there).items():
            comparable = [run for run in there if setting(run) == setting(members[0])]
            counts = count(members, seeds_of(comparable))
            finished = [run for run in members if is_finished(run)]
            for share in SHARES:
                reached = (_arrival(run, best[setting(run), run.info["seed"]], share) for run in finished)
                arrivals = pd.DataFrame([row for row in reached if row is not None], columns=list(QUANTITIES))
                entries.append(Entry(where, label, share, counts, arrivals))
    return entries


def _arrival(run: Run, best: float, share: float) -> tuple[float, float, float] | None:
    """Time, products and held-out loss at the first step from which on the outer loss is within `share` of the best."""
    if not np.isfinite(best):
        return None
    near = share * abs(best)
    within = run.trace["outer_loss"].between(best - near, best + near).to_numpy()
    begin = len(within) - np.logical_and.accumulate(within[::-1]).sum()
    if begin == len(within):
        return None
    first = run.trace.iloc[begin]
    return first["time"], first["evals"] + first["products"], first["test_loss"]


def _numbers(entry: Entry) -> dict[str, object]:
    """Each quantity as median, min and max; empty where no seed got there."""
    counts = entry.counts
    row: dict[str, object] = {"problem_data": entry.where, "method": entry.label, "within": entry.share}
    row |= {"reached": len(entry.arrivals), "seeds": counts.total, "diverged": counts.diverged}
    row |= {"unfinished": counts.unfinished, "missing": counts.missing}
    for quantity in QUANTITIES:
        column = entry.arrivals[quantity]
        row |= {f"{quantity}_{name}": getattr(column, name)() for name in ("median", "min", "max")}
    return row


def _cells(entry: Entry) -> tuple[str, ...]:
    counts = entry.counts
    ranges = (median_range(entry.arrivals[quantity].to_numpy(float)) for quantity in QUANTITIES)
    ended = map(str, (counts.diverged, counts.unfinished, counts.missing))
    within = f"{100 * entry.share:g} %"
    return (entry.where, entry.label, within, f"{len(entry.arrivals)} of {counts.total}", *ranges, *ended)


def median_range(values: np.ndarray) -> str:
    """Median [lowest, highest], a dash for no values."""
    if not len(values):
        return "–"
    low, median, high = np.quantile(values, [0, 0.5, 1])
    return f"{median:.4g} [{low:.4g}, {high:.4g}]"
