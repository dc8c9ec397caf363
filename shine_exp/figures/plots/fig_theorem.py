"""Theorem 1 of Ramzi et al. 2022 seen in numbers.

Which limit the hypergradient of each inverse estimate reaches as the inner problem is solved more
exactly: its relative error, and 1 − its cosine with the exact one, against the tolerance.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from shine_exp.figures.aggregate import Curve, quantiles
from shine_exp.figures.axes import (
    draw_band,
    legend_for_all,
    limit_log_y,
    log_x,
    new_figure,
)
from shine_exp.figures.drawing import Drawing, Table, how_to_make
from shine_exp.figures.grouping import by_setting, is_finished
from shine_exp.figures.headings import heading, quantile_band
from shine_exp.figures.kinds import THEOREM, is_study
from shine_exp.figures.looks import styles
from shine_exp.figures.plot import Options, Plot
from shine_exp.figures.summaries import NOTHING
from shine_exp.runs.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEAST_ANGLE = 1e-10  # traces keep ten digits of a cosine
NOTE = "Median over seeds of the relative error of the hypergradient, by the tolerance on ‖∇G‖."
QUANTITIES = {"relative_error": "relative error", "angle": "1 − cosine"}


class FigTheorem(Plot):
    """A row for each data set."""

    name = "fig-theorem"
    claim = "error of the hypergradient against the inner tolerance"

    def reads(self, run: Run) -> bool:
        return is_study(run, THEOREM)

    def draw(self, runs: Sequence[Run], options: Options) -> Drawing:
        groups = by_setting(run for run in runs if self.reads(run) and is_finished(run))
        if not groups:
            missing = f"{self.name}: no finished runs with outer={THEOREM}"
            return Drawing(self.name, None, (f"{missing}; {how_to_make(self.name)}",))
        frames = {title: _frame(members) for title, members in groups.items()}
        figure, axes = new_figure(len(groups), len(QUANTITIES))
        for row, (title, frame) in zip(axes, frames.items(), strict=True):
            title = heading(title, frame["seed"].nunique(), quantile_band((0.25, 0.75)))
            for ax, (column, quantity) in zip(row, QUANTITIES.items(), strict=True):
                _draw_panel(ax, frame, column)
                ax.set(ylabel=f"{quantity} of hypergradient", title=title)
        legend_for_all(figure)
        return Drawing(self.name, figure, table=_table(frames))


def _frame(runs: Sequence[Run]) -> pd.DataFrame:
    """The rows of some runs, with the seed and 1 − cosine."""
    frame = pd.concat([run.trace.assign(seed=run.info["seed"]) for run in runs])
    frame["angle"] = (1 - frame["cosine"]).clip(lower=LEAST_ANGLE)
    return frame


def _table(frames: Mapping[str, pd.DataFrame]) -> Table:
    """The relative error: a row for each data set and estimate, a column for each tolerance."""
    tolerances = sorted({tol for frame in frames.values() for tol in frame["tol"]}, reverse=True)
    header = ("data", "estimate", "seeds", *(f"error at {tol:.0e}" for tol in tolerances))
    lines, numbers = [], []
    for title, frame in frames.items():
        for estimate, style in styles(list(dict.fromkeys(frame["estimate"]))).items():
            part = frame[frame["estimate"] == estimate]
            curve = _curve(part, "relative_error")
            errors = dict(zip(curve.x.tolist(), curve.median.tolist(), strict=True))
            cells = (f"{errors[tol]:.2g}" if tol in errors else NOTHING for tol in tolerances)
            lines.append((title, style.name, str(part["seed"].nunique()), *cells))
            names = {"data": title, "estimate": estimate}
            numbers += [names | {"tol": tol, "relative_error": e} for tol, e in errors.items()]
    return Table((header, *lines), NOTE, pd.DataFrame(numbers))


def _draw_panel(ax: "Axes", frame: pd.DataFrame, column: str) -> None:
    medians: list[float] = []
    seeds = frame["seed"].nunique()
    for estimate, style in styles(list(dict.fromkeys(frame["estimate"]))).items():
        part = frame[frame["estimate"] == estimate]
        curve, fewest = _curve(part, column), part.groupby("tol")["seed"].nunique().min()
        lacking = f" ({fewest} of {seeds} seeds at fewest)" if fewest != seeds else ""
        ax.plot(curve.x, curve.median, label=style.name + lacking, **style.line)
        draw_band(ax, curve, style)
        medians += curve.median.tolist()
    log_x(ax)
    ax.set(xlabel="inner tolerance ‖∇G‖")
    ax.invert_xaxis()
    limit_log_y(ax, medians, decades=12)
    ax.minorticks_off()


def _curve(part: pd.DataFrame, column: str) -> Curve:
    """Quartiles over seeds at each tolerance; what is not a finite number counts as infinite."""
    tolerances, quartiles = [], []
    for tol, values in part.groupby("tol")[column]:
        tolerances.append(tol)
        quartiles.append(
            quantiles(values.where(np.isfinite(values), np.inf).to_numpy(), (0.25, 0.5, 0.75))
        )
    low, median, high = np.reshape(quartiles, (-1, 3)).T
    return Curve(np.array(tolerances), median, low, high)
