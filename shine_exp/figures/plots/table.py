"""The table of what each method spends until it is, and stays, near the best outer loss."""

from collections.abc import Sequence

import pandas as pd

from shine_exp.figures.drawing import Drawing, Table
from shine_exp.figures.kinds import is_search
from shine_exp.figures.plot import Options, Plot
from shine_exp.figures.summaries import median_columns, spread
from shine_exp.figures.ways_to_best import WayToBest, ways_to_best
from shine_exp.runs.run import Run

COSTS = {"time": "time (s)", "products": "products"}
HELD_OUT = {"held_out": "held-out loss"}
NOTE = (
    "Reached: of the seeds that were started; missing are seeds that other methods have. Median "
    "[lowest, highest] over all finished seeds; one that did not reach it and stay counts as "
    "infinite. The best is the lowest outer loss at the end of any run whose inner problem was "
    "solved to its tolerance there; products: gradient evaluations + Hessian products; unsolved: "
    "inner and backward solves that missed their tolerance; data: first digits of its digest."
)


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


def _cells(way: WayToBest, quantities: Sequence[str]) -> tuple[str, ...]:
    counts = way.counts
    return (
        way.where,
        way.label,
        f"{100 * way.share:g} %",
        f"{way.reached} of {counts.started}",
        *(spread(way.arrivals[name]) for name in quantities),
        *map(str, (counts.diverged, counts.unfinished, counts.missing, way.unsolved)),
        way.data,
    )


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
