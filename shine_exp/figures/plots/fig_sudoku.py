"""Sudoku by every backward pass: whole grids, and how true the gradient is, against its cost."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from shine_exp.figures.axes import legend_for_all, literal, log_x, new_figure
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
QUANTITIES = {
    "whole_grids_longer": "whole test grids right (%)",
    "gradient_cosine": "cosine with the exact gradient",
}


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
            for ax, (column, label) in zip(row, QUANTITIES.items(), strict=True):
                _draw_panel(ax, passes, column, options.x)
                ax.set(ylabel=label, title=heading(title, n_seeds, RANGE))
        legend_for_all(figure)
        return Drawing(file, figure)


def _draw_panel(ax: "Axes", passes: Mapping[str, pd.DataFrame], column: str, x: str) -> None:
    cost, label = COSTS[x]
    most = max(len(frame) for frame in passes.values())
    for name, style in styles(list(passes)).items():
        frame = passes[name].dropna(subset=[cost, column])
        if frame.empty:
            continue
        value = frame[column]
        middle = value.median()
        spread = [[middle - value.min()], [value.max() - middle]]
        lacking = most - len(passes[name])
        shown = f"{style.name} ({lacking} seeds missing)" if lacking else style.name
        line = style.line | {"linestyle": "none", "elinewidth": 0.8, "capsize": 3}
        ax.errorbar([frame[cost].median()], [middle], spread, label=literal(shown), **line)
    ax.margins(0.08, 0.1)
    ax.set_xlabel(label)
    if x == "time":
        log_x(ax)
