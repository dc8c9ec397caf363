"""fig-theorem: which limit the hypergradient of each estimate reaches as the inner problem is
solved more exactly.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from shine_exp.figures.aggregate import Curve, quantiles
from shine_exp.figures.drawing import Drawing, how_to_make
from shine_exp.figures.read import THEOREM
from shine_exp.figures.runs import by_setting, is_finished, seeds_of
from shine_exp.figures.style import (
    legend_for_all,
    limit_log_y,
    log_x,
    new_figure,
    panel_title,
    styles,
)
from shine_exp.runs.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "fig-theorem"
LEAST_ANGLE = 1e-10  # traces keep ten digits of a cosine


def draw_theorem(runs: Sequence[Run]) -> Drawing:
    """Relative error and 1 − cosine of the hypergradient against the inner tolerance: a row for
    each data set.
    """
    groups = by_setting(
        run for run in runs if run.info["choices"]["outer"] == THEOREM and is_finished(run)
    )
    if not groups:
        return Drawing(
            NAME, None, (f"{NAME}: no finished runs with outer={THEOREM}; {how_to_make(NAME)}",)
        )
    figure, axes = new_figure(len(groups), 2)
    for row, (title, members) in zip(axes, groups.items(), strict=True):
        frame = pd.concat([run.trace.assign(seed=run.info["seed"]) for run in members])
        frame["angle"] = (1 - frame["cosine"]).clip(lower=LEAST_ANGLE)
        seeds = len(seeds_of(members))
        for ax, column, quantity in zip(
            row, ("relative_error", "angle"), ("relative error", "1 − cosine"), strict=True
        ):
            _draw_panel(ax, frame, column)
            ax.set(
                ylabel=f"{quantity} of hypergradient", title=panel_title(f"{title} ({seeds} seeds)")
            )
    legend_for_all(figure, "median and 25 – 75 % of seeds")
    return Drawing(NAME, figure)


def _draw_panel(ax: "Axes", frame: pd.DataFrame, column: str) -> None:
    medians: list[float] = []
    seeds = frame["seed"].nunique()
    for estimate, style in styles(list(dict.fromkeys(frame["estimate"]))).items():
        part = frame[frame["estimate"] == estimate]
        curve, fewest = _curve(part, column), part.groupby("tol")["seed"].nunique().min()
        name = (
            style.name if fewest == seeds else f"{style.name} ({fewest} of {seeds} seeds at fewest)"
        )
        ax.plot(curve.x, curve.median, label=name, **style.line)
        ax.fill_between(curve.x, curve.low, curve.top, color=style.color, alpha=0.15, linewidth=0)
        medians += curve.median.tolist()
    log_x(ax)
    ax.set(xlabel="inner tolerance ‖∇G‖")
    ax.invert_xaxis()
    limit_log_y(ax, medians, decades=12)
    ax.minorticks_off()


def _curve(part: pd.DataFrame, column: str) -> Curve:
    """Quantiles over seeds at each tolerance; what is not a finite number counts as infinite."""
    at = {
        tol: np.where(np.isfinite(values), values, np.inf)
        for tol, values in part.groupby("tol")[column]
    }
    low, median, high = (
        np.array([quantiles(values, (0.25, 0.5, 0.75)) for values in at.values()]).reshape(-1, 3).T
    )
    return Curve(np.array(list(at)), median, low, high)
