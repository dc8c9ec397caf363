"""The ranges of an augmentation on their way to those that the data were made with."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from shine_exp.figures.aggregate import aggregate
from shine_exp.figures.axes import draw_curve, legend_for_all, new_figure
from shine_exp.figures.drawing import Drawing, Table, how_to_make
from shine_exp.figures.grouping import by_setting, is_finished, seeds_of
from shine_exp.figures.headings import RANGE, heading, lacking
from shine_exp.figures.kinds import is_compared, is_search
from shine_exp.figures.looks import styles
from shine_exp.figures.plot import Options, Plot
from shine_exp.figures.summaries import NOTHING, median_columns, spread
from shine_exp.runs.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PROBLEM = "augment"
# Column of the trace → label of its axis. The data's configuration has the ranges by these names.
RANGES = {
    "rotation": "rotation (degrees)",
    "shift_x": "shift in x (pixels)",
    "shift_y": "shift in y (pixels)",
    "log_scale": "log-scale",
    "shear": "shear",
}
PANELS = {**RANGES, "accuracy": "held-out accuracy"}
COLUMNS = 3
NOTE = (
    "Half-ranges and held-out accuracy at the last step: median [lowest, highest] of the seeds; "
    "planted: those that the data were made with."
)


class FigAugment(Plot):
    """Two rows of panels for each setting: the five half-ranges and the accuracy, by outer step."""

    name = "fig-augment"
    claim = "the ranges of an augmentation, and those that the data were made with"

    def reads(self, run: Run) -> bool:
        is_own = is_search(run) and run.info["choices"]["problem"] == PROBLEM
        return is_own and not is_compared(run)

    def draw(self, runs: Sequence[Run], options: Options) -> Drawing:
        groups = by_setting(run for run in runs if is_finished(run))
        if not groups:
            missing = f"{self.name}: no finished runs with problem={PROBLEM}"
            return Drawing(self.name, None, (f"{missing}; {how_to_make(self.name)}",))
        rows = len(PANELS) // COLUMNS
        figure, axes = new_figure(rows * len(groups), COLUMNS)
        methods = {run.info["choices"]["method"] for run in runs}
        for number, (title, members) in enumerate(groups.items()):
            drawn = {run.info["choices"]["method"] for run in members}
            panels = [ax for row in axes[rows * number : rows * (number + 1)] for ax in row]
            title = heading(title, len(seeds_of(members)), RANGE, lacking(methods, drawn))
            for ax, (column, label) in zip(panels, PANELS.items(), strict=True):
                _draw_panel(ax, members, column)
                ax.set(xlabel="outer step", ylabel=label, title=title)
                ax.set_ylim(bottom=-0.03 * ax.get_ylim()[1])  # a planted 0 is not cut in half
        legend_for_all(figure, "half-ranges")
        return Drawing(self.name, figure, table=_table(groups))


def _table(groups: Mapping[str, Sequence[Run]]) -> Table:
    """A row for each setting and method, and one for the planted ranges, where there are any."""
    lines, numbers = [], []
    for title, members in groups.items():
        for method, style in styles(sorted({r.info["choices"]["method"] for r in members})).items():
            of_method = [run for run in members if run.info["choices"]["method"] == method]
            last = [[float(run.trace[name].iloc[-1]) for name in PANELS] for run in of_method]
            ends = pd.DataFrame(last, columns=list(PANELS))
            cells = (spread(ends[name]) for name in PANELS)
            lines.append((title, style.name, str(len(ends)), *cells))
            numbers.append({"data": title, "method": method} | median_columns(ends, PANELS))
        planted = [run for run in members if _planted(run)]
        if planted:
            ranges = pd.DataFrame(map(_planted, planted)).reindex(columns=list(PANELS))
            cells = (spread(ranges[name].drop_duplicates()) for name in PANELS)
            lines.append((title, "planted", NOTHING, *cells))
    header = ("data", "method", "seeds", *PANELS.values())
    return Table((header, *lines), NOTE, pd.DataFrame(numbers))


def _draw_panel(ax: "Axes", runs: Sequence[Run], column: str) -> None:
    methods = sorted({run.info["choices"]["method"] for run in runs})
    for rank, (method, style) in enumerate(styles(methods).items()):
        of_method = [run for run in runs if run.info["choices"]["method"] == method]
        traces = [(run.trace["step"].to_numpy(), run.trace[column].to_numpy()) for run in of_method]
        draw_curve(ax, aggregate(traces, (0, 1), log=False), style, style.name, rank)
    for planted in sorted({_planted(run)[column] for run in runs if column in _planted(run)}):
        ax.axhline(planted, color="0.2", linestyle=(0, (2, 2)), label="planted")


def _planted(run: Run) -> dict[str, float]:
    """The half-ranges that the run's data were made with; none of data that nobody made."""
    data = run.config.get("data") or {}
    return dict(data.get("ranges") or {})
