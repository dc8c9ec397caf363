"""table-networks: what each method's networks are worth, and what they cost to train."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from shine_exp.figures.drawing import Drawing, Table, how_to_make
from shine_exp.figures.networks import by_network, is_training, outcomes
from shine_exp.figures.provenance import Unsolved, data_of, unsolved
from shine_exp.figures.runs import Counts, count, seeds_of
from shine_exp.figures.table import median_range
from shine_exp.runs.run import Run

NAME = "table-networks"
QUANTITIES = {
    "test_loss": "test loss",
    "forward_ms": "forward (ms)",
    "backward_ms": "backward (ms)",
    "products": "products per step",
    "forward_residual": "forward residual",
    "converged": "share converged",
    "backward_residual": "backward residual",
    "fell_back": "share fell back",
}
HEADER = (
    "network", "method", "done", "top-1 (%)", *QUANTITIES.values(),
    "diverged", "unfinished", "missing", "unsolved", "data",
)  # fmt: skip
NOTE = (
    "Done: of the seeds that were started; missing are seeds that other methods have. Over the seeds that are done: "
    "mean ± std (n − 1) of top-1, else median [lowest, highest]. Losses, residuals and shares of samples (whose "
    "equilibrium was solved to the tolerance; that fell back) are those of the last epoch; milliseconds and products "
    "with J, per training step, are medians over the epochs after pre-training. Unsolved: forward (inner) and backward "
    "solves of a sample that missed their tolerance; data: first digits of its digest."
)


@dataclass(frozen=True)
class Entry:
    """One method's runs on a network, and how those that are done ended."""

    title: str
    label: str
    counts: Counts
    outcomes: pd.DataFrame
    unsolved: Unsolved
    data: str


def draw_network_table(runs: Sequence[Run]) -> Drawing:
    """A row for each network and method; runs that diverged or have not ended are only counted."""
    entries = list(_entries(runs))
    if not entries:
        return Drawing(NAME, None, (f"{NAME}: no runs with outer=train; {how_to_make('fig3')}",))
    lines = (HEADER, *map(_cells, entries))
    return Drawing(NAME, None, table=Table(lines, NOTE, pd.DataFrame(list(map(_numbers, entries)))))


def accuracy(values: pd.Series) -> str:
    """Mean ± standard deviation, a dash for no values."""
    if values.empty:
        return "–"
    return (
        f"{values.mean():.2f} ± {values.std():.2f}" if len(values) > 1 else f"{values.mean():.2f}"
    )


def spread(values: pd.Series) -> str:
    """Median [lowest, highest] of the values that are there, or the only one, or a dash."""
    there = values.dropna().to_numpy(float)
    return f"{there[0]:.4g}" if len(there) == 1 else median_range(there)


def numbers(frame: pd.DataFrame, columns: Sequence[str]) -> dict[str, float]:
    """Median, min and max of each column, by the names that they have in a CSV."""
    return {
        f"{name}_{how}": getattr(frame[name], how)()
        for name in columns
        for how in ("median", "min", "max")
    }


def _entries(runs: Sequence[Run]) -> Iterator[Entry]:
    for network in by_network(run for run in runs if is_training(run)):
        seeds = seeds_of(network.everything)
        for label, members in network.runs.items():
            counts = count(members, seeds)
            yield Entry(
                network.title, label, counts, outcomes(members), unsolved(members), data_of(members)
            )


def _cells(entry: Entry) -> tuple[str, ...]:
    counts, frame = entry.counts, entry.outcomes
    ranges = (spread(frame[name]) for name in QUANTITIES)
    ended = map(str, (counts.diverged, counts.unfinished, counts.missing, entry.unsolved))
    done = f"{counts.done} of {counts.started}"
    return (
        entry.title,
        entry.label,
        done,
        accuracy(frame["accuracy"]),
        *ranges,
        *ended,
        entry.data,
    )


def _numbers(entry: Entry) -> dict[str, object]:
    counts, top1 = entry.counts, entry.outcomes["accuracy"]
    return {
        "network": entry.title,
        "method": entry.label,
        "seeds": counts.started,
        "done": counts.done,
        "diverged": counts.diverged,
        "unfinished": counts.unfinished,
        "missing": counts.missing,
        **entry.unsolved.numbers(),
        "data": entry.data,
        "accuracy_mean": top1.mean(),
        "accuracy_std": top1.std(),
        **numbers(entry.outcomes, list(QUANTITIES)),
    }
