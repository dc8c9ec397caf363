"""How good the network is that a search over architectures would choose, step by step."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from shine_exp.figures.aggregate import aggregate
from shine_exp.figures.axes import draw_curve, legend_for_all, new_figure, panel_title
from shine_exp.figures.drawing import Drawing, how_to_make
from shine_exp.figures.grouping import by_setting, is_finished, seeds_of
from shine_exp.figures.kinds import is_search
from shine_exp.figures.looks import styles
from shine_exp.figures.plot import Options, Plot
from shine_exp.runs.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PROBLEM = "architecture"
# Column of the trace → label of its axis. run.json has what two baselines come to, under the same
# names: rank_conv3x3, rank_random.
PANELS = {"rank": "rank of the choice, of 125", "regret": "regret of the choice"}
BASELINES = {"conv3x3": ("3 × 3 on each edge", (0, (5, 2))), "random": ("at random", (0, (1, 1.5)))}


class FigArchitecture(Plot):
    """A row for each setting: rank and regret by outer step, of runs that have them."""

    name = "fig-architecture"
    claim = "rank and regret of the network that a search would choose"

    def reads(self, run: Run) -> bool:
        return is_search(run) and run.info["choices"]["problem"] == PROBLEM

    def draw(self, runs: Sequence[Run], options: Options) -> Drawing:
        ranked = (run for run in runs if is_finished(run) and "rank" in run.trace)
        groups = by_setting(ranked)
        if not groups:
            missing = f"{self.name}: no finished runs with problem={PROBLEM} and a table"
            return Drawing(self.name, None, (f"{missing}; {how_to_make(self.name)}",))
        figure, axes = new_figure(len(groups), len(PANELS))
        for row, (title, members) in zip(axes, groups.items(), strict=True):
            title = panel_title(f"{title} ({len(seeds_of(members))} seeds)")
            for ax, (column, label) in zip(row, PANELS.items(), strict=True):
                _draw_panel(ax, members, column)
                ax.set(xlabel="outer step", ylabel=label, title=title)
        legend_for_all(figure, "median, lowest and highest of the seeds")
        return Drawing(self.name, figure)


def _draw_panel(ax: "Axes", runs: Sequence[Run], column: str) -> None:
    methods = sorted({run.info["choices"]["method"] for run in runs})
    for rank, (method, style) in enumerate(styles(methods).items()):
        of_method = [run for run in runs if run.info["choices"]["method"] == method]
        traces = [(run.trace["step"].to_numpy(), run.trace[column].to_numpy()) for run in of_method]
        draw_curve(ax, aggregate(traces, (0, 1), log=False), style, style.name, rank)
    for baseline, (label, dashes) in BASELINES.items():
        value = float(np.median([run.info[f"{column}_{baseline}"] for run in runs]))
        ax.axhline(value, color="0.2", linestyle=dashes, label=label)
    if column == "rank":
        ax.set_yscale("log")
