"""table-networks: what each method's networks are worth, and what they cost to train."""

from collections.abc import Iterator, Sequence

import pandas as pd

from shine_exp.figures.drawing import Drawing, Table, how_to_make
from shine_exp.figures.networks import by_network, is_training, outcomes
from shine_exp.figures.runs import Counts, count, seeds_of
from shine_exp.figures.table import median_range
from shine_exp.trace import Run

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
HEADER = ("network", "method", "done", "top-1 (%)", *QUANTITIES.values(), "diverged", "unfinished", "missing")
NOTE = (
    "Seeds that are done: mean ± std (n − 1) of top-1, else median [lowest, highest]. Losses, residuals and shares of "
    "samples (whose equilibrium was solved to the tolerance; that fell back) are those of the last epoch; milliseconds "
    "and products with J, per training step, are medians over the epochs after pre-training."
)


def draw_network_table(runs: Sequence[Run]) -> Drawing:
    """A row for each network and method; runs that diverged or have not ended are only counted."""
    rows = list(_rows(runs))
    if not rows:
        return Drawing(NAME, None, (f"{NAME}: no runs with outer=train; {how_to_make('fig3')}",))
    lines = (HEADER, *(_cells(*row) for row in rows))
    return Drawing(NAME, None, table=Table(lines, NOTE, pd.DataFrame([_numbers(*row) for row in rows])))


def accuracy(values: pd.Series) -> str:
    """Mean ± standard deviation, a dash for no values."""
    if values.empty:
        return "–"
    return f"{values.mean():.2f} ± {values.std():.2f}" if len(values) > 1 else f"{values.mean():.2f}"


def spread(values: pd.Series) -> str:
    """Median [lowest, highest] of the values that are there, or the only one, or a dash."""
    there = values.dropna().to_numpy(float)
    return f"{there[0]:.4g}" if len(there) == 1 else median_range(there)


def numbers(frame: pd.DataFrame, columns: Sequence[str]) -> dict[str, float]:
    """Median, min and max of each column, by the names that they have in a CSV."""
    return {f"{name}_{how}": getattr(frame[name], how)() for name in columns for how in ("median", "min", "max")}


def _rows(runs: Sequence[Run]) -> Iterator[tuple[str, str, Counts, pd.DataFrame]]:
    for network in by_network(run for run in runs if is_training(run)):
        seeds = seeds_of(network.everything)
        for label, members in network.runs.items():
            yield network.title, label, count(members, seeds), outcomes(members)


def _cells(title: str, label: str, counts: Counts, frame: pd.DataFrame) -> tuple[str, ...]:
    ranges = (spread(frame[name]) for name in QUANTITIES)
    ended = map(str, (counts.diverged, counts.unfinished, counts.missing))
    return (title, label, f"{counts.done} of {counts.total}", accuracy(frame["accuracy"]), *ranges, *ended)


def _numbers(title: str, label: str, counts: Counts, frame: pd.DataFrame) -> dict[str, object]:
    ended = {name: getattr(counts, name) for name in ("done", "diverged", "unfinished", "missing")}
    top1 = {"accuracy_mean": frame["accuracy"].mean(), "accuracy_std": frame["accuracy"].std()}
    return {
        "network": title,
        "method": label,
        "seeds": counts.total,
        **ended,
        **top1,
        **numbers(frame, list(QUANTITIES)),
    }
