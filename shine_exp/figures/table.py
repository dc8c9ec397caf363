"""The table: what each method spends until it is, and stays, within 1 % and 0.1 % of the best outer loss."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from shine_exp.figures.runs import Counts, best_end_per_seed, by_label, count, is_finished, place, seeds_of, setting
from shine_exp.trace import Run

SHARES = (0.01, 0.001)
QUANTITIES = ("time", "products", "held_out")
HEADER = (
    "problem-data", "method", "within", "reached", "time (s)", "products", "held-out loss",
    "diverged", "unfinished", "missing",
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One label's way to within a share of the best: `arrivals` has a row for each seed that got there."""

    where: str
    label: str
    share: float
    counts: Counts
    arrivals: pd.DataFrame


def make_table(runs: Sequence[Run]) -> list[Entry]:
    """The entries, by problem and data, label, and share; unfinished runs are only counted."""
    best = best_end_per_seed(runs, "outer_loss")
    entries = []
    for where in sorted({place(run) for run in runs}):
        there = [run for run in runs if place(run) == where]
        for label, members in by_label(there).items():
            counts = count(members, seeds_of(there))
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


def as_text(entries: Iterable[Entry]) -> str:
    return aligned([HEADER, *map(_cells, entries)])


def as_markdown(entries: Iterable[Entry]) -> str:
    note = (
        "Median [lowest, highest] of the seeds that reached it and stayed; best: the lowest outer loss at the end of a "
        "run; products: gradient evaluations + Hessian products."
    )
    return markdown([HEADER, *map(_cells, entries)], note)


def aligned(lines: Sequence[tuple[str, ...]]) -> str:
    """Aligned columns for the terminal."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def markdown(lines: Sequence[tuple[str, ...]], note: str) -> str:
    """A table, its header the first line, and a note below it."""
    ruled = [lines[0], tuple("---" for _ in lines[0]), *lines[1:]]
    rows = ("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in ruled)
    return "\n".join([*rows, "", note, ""])


def save_csv(data: pd.DataFrame, path: Path) -> None:
    data.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")


def write_csv(entries: Iterable[Entry], path: Path) -> None:
    """One row an entry, each quantity as median, min and max; empty where no seed got there."""
    rows = []
    for entry in entries:
        counts = entry.counts
        row = {
            "problem_data": entry.where,
            "method": entry.label,
            "within": entry.share,
            "reached": len(entry.arrivals),
        }
        row |= {"seeds": counts.total, "diverged": counts.diverged}
        row |= {"unfinished": counts.unfinished, "missing": counts.missing}
        for quantity in QUANTITIES:
            column = entry.arrivals[quantity]
            row |= {f"{quantity}_{name}": getattr(column, name)() for name in ("median", "min", "max")}
        rows.append(row)
    save_csv(pd.DataFrame(rows), path)


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
