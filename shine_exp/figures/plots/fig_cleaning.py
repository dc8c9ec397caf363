"""Data cleaning along the run: what the weights are worth, beside training on all or right rows."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from shine_exp.figures.aggregate import StepFunction, aggregate
from shine_exp.figures.axes import draw_curve, legend_for_all, log_x, new_figure
from shine_exp.figures.convergence import COST_LABELS, costs
from shine_exp.figures.drawing import Drawing, Table, how_to_make
from shine_exp.figures.grouping import by_setting, is_finished, seeds_of
from shine_exp.figures.headings import RANGE, heading, lacking
from shine_exp.figures.kinds import is_compared, is_search
from shine_exp.figures.looks import styles
from shine_exp.figures.plot import Options, Plot
from shine_exp.figures.summaries import median_columns, spread
from shine_exp.runs.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

QUANTITIES = {
    "accuracy": "held-out accuracy",
    "f1": "F1 of σ(α) < ½ for wrong labels",
    "weight_on_wrong": "share of weight on wrong labels",
}
ORACLE, ALL_ROWS = "right rows only", "all rows"
DASHES = {ORACLE: (0, (5, 2)), ALL_ROWS: (0, (1, 1.2))}
HEADER = (
    *("data", "method", "seeds", "accuracy (%)", "points below right rows only"),
    *("points above all rows", "F1", "weight on wrong labels (%)"),
)
NOTE = (
    "At the last step: median [lowest, highest] of the seeds; points of accuracy are of the same "
    "seed. F1: of σ(α) < ½ for wrong labels."
)


class FigCleaning(Plot):
    """A row for each setting of the problem, a panel for each measure."""

    name = "fig-cleaning"
    claim = "a weight for every training row: accuracy, and which wrong labels are found"

    def reads(self, run: Run) -> bool:
        return is_search(run) and "baselines" in run.info and not is_compared(run)

    def draw(self, runs: Sequence[Run], options: Options) -> Drawing:
        name = self.name if options.x == "time" else f"{self.name}-{options.x}"
        settings = by_setting(run for run in runs if is_finished(run))
        if not settings:
            missing = f"{self.name}: no finished runs on a problem with wrong labels"
            return Drawing(name, None, (f"{missing}; {how_to_make(self.name)}",))
        methods = {run.info["choices"]["method"] for run in runs}
        figure, axes = new_figure(len(settings), len(QUANTITIES))
        for row, (title, members) in zip(axes, settings.items(), strict=True):
            drawn = {run.info["choices"]["method"] for run in members}
            title = heading(title, len(seeds_of(members)), RANGE, lacking(methods, drawn))
            for ax, (column, label) in zip(row, QUANTITIES.items(), strict=True):
                _draw_panel(ax, members, column, options.x)
                ax.set(xlabel=COST_LABELS[options.x], ylabel=label, title=title)
        legend_for_all(figure)
        return Drawing(name, figure, table=_table(settings))


def _table(settings: Mapping[str, Sequence[Run]]) -> Table:
    """A row for each setting and method, and one for each baseline."""
    lines, numbers = [], []
    for title, members in settings.items():
        for name, ends in _ends(members).items():
            cells = (spread(ends[column]) for column in ends)
            lines.append((title, name, str(len(ends)), *cells))
            numbers.append({"data": title, "method": name} | median_columns(ends, ends.columns))
    return Table((HEADER, *lines), NOTE, pd.DataFrame(numbers))


def _ends(runs: Sequence[Run]) -> dict[str, pd.DataFrame]:
    """What each method ends at, and each baseline, a row for each seed."""
    ends: dict[str, pd.DataFrame] = {}
    for method, style in styles(sorted({run.info["choices"]["method"] for run in runs})).items():
        of_method = [run for run in runs if run.info["choices"]["method"] == method]
        ends[style.name] = pd.DataFrame(_compared(run, run.trace.iloc[-1]) for run in of_method)
    one_each = {run.info["seed"]: run for run in runs}.values()  # the same for all methods
    for name in DASHES:
        known = (_compared(run, run.info["baselines"][name]) for run in one_each)
        ends[name] = pd.DataFrame(known)
    return ends


def _compared(run: Run, end: Mapping[str, float] | pd.Series) -> dict[str, float]:
    """What a run, or a baseline of its seed, comes to, beside both baselines."""
    baselines = run.info["baselines"]
    compared = (end, baselines[ORACLE], baselines[ALL_ROWS])
    # Equal ones differ by what a trace cuts off.
    accuracy, right, every = (round(100 * float(each["accuracy"]), 4) for each in compared)
    return {
        "accuracy": accuracy,
        "below_right_rows": right - accuracy,
        "above_all_rows": accuracy - every,
        "f1": end["f1"],
        "weight_on_wrong": 100 * end["weight_on_wrong"],
    }


def _draw_panel(ax: "Axes", runs: Sequence[Run], column: str, x: str) -> None:
    methods = sorted({run.info["choices"]["method"] for run in runs})
    for rank, (method, style) in enumerate(styles(methods).items()):
        of_method = [run for run in runs if run.info["choices"]["method"] == method]
        traces = [_measured(run, column, x) for run in of_method]
        curve = aggregate(traces, (0, 1), log=x != "steps")
        missing = len(seeds_of(runs)) - len(traces)
        name = f"{style.name} ({missing} seeds missing)" if missing else style.name
        draw_curve(ax, curve, style, name, rank)
    if x != "steps":
        log_x(ax)
    for name, dashes in DASHES.items():
        ends = {run.info["seed"]: run.info["baselines"][name][column] for run in runs}
        median = float(np.median(list(ends.values())))
        ax.axhline(median, color="black", linestyle=dashes, linewidth=1.2, label=name)


def _measured(run: Run, column: str, x: str) -> StepFunction:
    """Cost and measure from the first α on that was moved: all runs agree before."""
    moved = slice(2, None)
    return costs(run, x)[moved], run.trace[column].to_numpy()[moved]
