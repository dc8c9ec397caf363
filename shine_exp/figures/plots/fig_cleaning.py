"""Data cleaning along the run: what the weights are worth, beside training on all or right rows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from shine_exp.figures.aggregate import StepFunction, aggregate
from shine_exp.figures.axes import draw_curve, legend_for_all, log_x, new_figure, panel_title
from shine_exp.figures.convergence import COST_LABELS, costs
from shine_exp.figures.drawing import Drawing, how_to_make
from shine_exp.figures.grouping import by_label, by_setting, is_finished, seeds_of
from shine_exp.figures.kinds import is_search
from shine_exp.figures.looks import styles
from shine_exp.figures.plot import Options, Plot
from shine_exp.runs.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

QUANTITIES = {
    "accuracy": "held-out accuracy",
    "f1": "F1 of σ(α) < ½ for wrong labels",
    "weight_on_wrong": "share of weight on wrong labels",
}
DASHES = {"right rows only": (0, (5, 2)), "all rows": (0, (1, 1.2))}


class FigCleaning(Plot):
    """A row for each setting of the problem, a panel for each measure."""

    name = "fig-cleaning"
    claim = "a weight for every training row: accuracy, and which wrong labels are found"

    def reads(self, run: Run) -> bool:
        return is_search(run) and "baselines" in run.info

    def draw(self, runs: Sequence[Run], options: Options) -> Drawing:
        name = self.name if options.x == "time" else f"{self.name}-{options.x}"
        finished = [run for run in runs if is_finished(run) and not run.info["differs"]]
        if not finished:
            missing = f"{self.name}: no finished runs on a problem with wrong labels"
            return Drawing(name, None, (f"{missing}; {how_to_make(self.name)}",))
        settings = by_setting(finished)
        figure, axes = new_figure(len(settings), len(QUANTITIES))
        for row, (title, members) in zip(axes, settings.items(), strict=True):
            seeds = seeds_of(members)
            for ax, (column, label) in zip(row, QUANTITIES.items(), strict=True):
                _draw_panel(ax, members, column, options.x)
                ax.set(
                    xlabel=COST_LABELS[options.x],
                    ylabel=label,
                    title=panel_title(f"{title} ({len(seeds)} seed{'s' * (len(seeds) > 1)})"),
                )
        legend_for_all(figure, "median, lowest and highest of the seeds")
        return Drawing(name, figure)


def _draw_panel(ax: "Axes", runs: Sequence[Run], column: str, x: str) -> None:
    groups = by_label(runs)
    for rank, (label, style) in enumerate(styles(list(groups)).items()):
        traces = [_measured(run, column, x) for run in groups[label]]
        curve = aggregate(traces, (0, 1), log=x != "steps")
        lacking = len(seeds_of(runs)) - len(traces)
        name = f"{style.name} ({lacking} seeds missing)" if lacking else style.name
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
