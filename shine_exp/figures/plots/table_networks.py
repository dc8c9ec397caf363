"""The table of what each method's networks are worth, and what they cost to train."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from shine_exp.figures.drawing import Drawing, Table, how_to_make
from shine_exp.figures.grouping import Counts, count, seeds_of
from shine_exp.figures.kinds import is_training
from shine_exp.figures.names import PROBLEM_NAMES
from shine_exp.figures.networks import MODEL, by_network, measured_by_any, outcomes
from shine_exp.figures.plot import Options, Plot
from shine_exp.figures.provenance import Unsolved, data_of, unsolved
from shine_exp.figures.summaries import (
    NOTHING,
    mean_and_deviation,
    mean_columns,
    median_columns,
    median_range_or_single,
)
from shine_exp.runs.run import Run

ACCURACY = {"accuracy": "top-1 (%)"}
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
MDEQ = "mdeq"
PUBLISHED = ("tiny", "large")  # the models of an MDEQ that the paper trains
NOTE = (
    "Done: of the seeds that were started; missing are seeds that other methods have. Over the "
    "seeds that are done: mean ± std (n − 1) of top-1, else median [lowest, highest]. Losses, "
    "residuals and shares of samples (whose equilibrium was solved to the tolerance; that fell "
    "back) are those of the last epoch; milliseconds and products with J, per training step, are "
    "medians over the epochs after pre-training. Unsolved: forward (inner) and backward solves of "
    "a sample that missed their tolerance; data: first digits of its digest."
)


@dataclass(frozen=True)
class MethodOnNetwork:
    """One method's runs on a network, and how those that are done ended."""

    title: str
    label: str
    counts: Counts
    outcomes: pd.DataFrame
    unsolved: Unsolved
    data: str


class NetworksTable(Plot):
    """A row for each network and method; runs that diverged or have not ended are only counted.

    A quantity that no run has measured has no column. Beside any MDEQ, those that the paper trains
    have a line that says so, as long as there are no runs of them.
    """

    name = "table-networks"
    claim = "what networks are worth and what they cost, by method"

    def reads(self, run: Run) -> bool:
        return is_training(run)

    def draw(self, runs: Sequence[Run], options: Options) -> Drawing:
        training = list(filter(is_training, runs))
        rows = list(_rows(training))
        if not rows:
            how = how_to_make("fig3")
            return Drawing(self.name, None, (f"{self.name}: no runs with outer=train; {how}",))
        accuracy = measured_by_any(training, ACCURACY)
        shown = measured_by_any(training, QUANTITIES)
        header = (
            *("network", "method", "done", *accuracy.values(), *shown.values()),
            *("diverged", "unfinished", "missing", "unsolved", "data"),
        )
        lines = (
            header,
            *(_cells(row, accuracy, shown) for row in rows),
            *(
                (f"{PROBLEM_NAMES[MDEQ]} {model}", "not trained here", *[NOTHING] * len(header[2:]))
                for model in _untrained(training)
            ),
        )
        data = pd.DataFrame([_numbers(row, accuracy, shown) for row in rows])
        return Drawing(self.name, None, table=Table(lines, NOTE, data))


def _rows(runs: Sequence[Run]) -> Iterator[MethodOnNetwork]:
    for network in by_network(runs):
        seeds = seeds_of(network.all_runs)
        for label, members in network.runs.items():
            counts, ends = count(members, seeds), outcomes(members)
            provenance = unsolved(members), data_of(members)
            yield MethodOnNetwork(network.title, label, counts, ends, *provenance)


def _untrained(runs: Sequence[Run]) -> list[str]:
    """The published models without a run, where there are runs of another MDEQ."""
    choices = [run.info["choices"] for run in runs]
    trained = {chosen.get(MODEL) for chosen in choices if chosen["problem"] == MDEQ}
    return [model for model in PUBLISHED if model not in trained] if trained else []


def _cells(
    row: MethodOnNetwork, accuracy: Mapping[str, str], shown: Mapping[str, str]
) -> tuple[str, ...]:
    counts = row.counts
    return (
        row.title,
        row.label,
        f"{counts.done} of {counts.started}",
        *(mean_and_deviation(row.outcomes[name]) for name in accuracy),
        *(median_range_or_single(row.outcomes[name]) for name in shown),
        *map(str, (counts.diverged, counts.unfinished, counts.missing, row.unsolved)),
        row.data,
    )


def _numbers(
    row: MethodOnNetwork, accuracy: Mapping[str, str], shown: Mapping[str, str]
) -> dict[str, object]:
    counts = row.counts
    return {
        "network": row.title,
        "method": row.label,
        "seeds": counts.started,
        "done": counts.done,
        "diverged": counts.diverged,
        "unfinished": counts.unfinished,
        "missing": counts.missing,
        **row.unsolved.numbers(),
        "data": row.data,
        **mean_columns(row.outcomes, accuracy),
        **median_columns(row.outcomes, shown),
    }
