"""Sudoku by every backward pass: whole grids, and how true the gradient is, against its cost."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from shine_exp.figures.axes import legend_for_all, limit_log_y, literal, log_x, new_figure
from shine_exp.figures.drawing import Drawing, how_to_make
from shine_exp.figures.headings import RANGE, heading
from shine_exp.figures.looks import styles
from shine_exp.figures.plot import Options, Plot
from shine_exp.figures.sudokus import by_backward_pass, is_sudoku
from shine_exp.runs.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COSTS = {
    "time": ("backward_ms", "backward pass of a batch (ms)"),
    "products": ("products", "products with J of a backward pass"),
}
# Column → what it is at best, and the label of what lacks to that, drawn on a logarithmic axis.
QUANTITIES = {
    "whole_grids_longer": (100, "test grids with a wrong number (%)"),
    "gradient_cosine": (1, "1 − cosine with the exact gradient"),
}
TICKS = (0, 1, 2, 5, 10, 20, 50, 100)  # percent: none may be wrong


class FigSudoku(Plot):
    """A row for each network, a panel for each quantity; a point is a backward pass."""

    name = "fig-sudoku"
    claim = "Sudoku: whole grids, and the gradient's cosine, by the cost of a pass"

    def reads(self, run: Run) -> bool:
        return is_sudoku(run)

    def draw(self, runs: Sequence[Run], options: Options) -> Drawing:
        file = self.name if options.x == "time" else f"{self.name}-{options.x}"
        if options.x not in COSTS:
            why = "a point is a whole run; take --x time or --x products"
            return Drawing(file, None, (f"{self.name}: not drawn against {options.x}: {why}",))
        networks = by_backward_pass(filter(self.reads, runs))
        if not networks:
            missing = f"{self.name}: no finished runs with problem=sudoku"
            return Drawing(file, None, (f"{missing}; {how_to_make(self.name)}",))
        figure, axes = new_figure(len(networks), len(QUANTITIES))
        for row, (title, passes) in zip(axes, networks.items(), strict=True):
            n_seeds = len(set().union(*(frame["seed"] for frame in passes.values())))
            for ax, (column, (best, label)) in zip(row, QUANTITIES.items(), strict=True):
                shown = _draw_panel(ax, passes, column, best, options.x)
                ax.set(ylabel=label, title=heading(title, n_seeds, RANGE))
                if best == 1:
                    limit_log_y(ax, shown)
                else:
                    _symmetric_log_y(ax)
        legend_for_all(figure)
        return Drawing(file, figure)


def _draw_panel(
    ax: "Axes", passes: Mapping[str, pd.DataFrame], column: str, best: float, x: str
) -> list[float]:
    """The lowest, median and highest values that are drawn."""
    cost, label = COSTS[x]
    most = max(len(frame) for frame in passes.values())
    drawn: list[float] = []
    for name, style in styles(list(passes)).items():
        frame = passes[name].dropna(subset=[cost, column])
        if frame.empty:
            continue
        lacks = best - frame[column]
        low, middle, high = lacks.min(), lacks.median(), lacks.max()
        drawn += [low, middle, high]
        missing = most - len(passes[name])
        shown = f"{style.name} ({missing} seeds missing)" if missing else style.name
        line = style.line | {"linestyle": "none", "elinewidth": 0.8, "capsize": 3}
        spread = [[middle - low], [high - middle]]
        ax.errorbar([frame[cost].median()], [middle], spread, label=literal(shown), **line)
    ax.margins(0.08, 0.1)
    ax.set_xlabel(label)
    if x == "time":
        log_x(ax)
    return drawn


def _symmetric_log_y(ax: "Axes") -> None:
    """Percent down to none: linear below one."""
    ax.set_yscale("symlog", linthresh=1)
    ax.set_yticks(TICKS, map(str, TICKS))
    ax.set_ylim(-0.2, 130)
