"""fig2-right: how well an inverse estimate H does in a direction d, a = H d against the exact b =
A⁻¹ d.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from shine_exp.figures.drawing import Drawing, how_to_make
from shine_exp.figures.read import INVERSION
from shine_exp.figures.runs import by_setting, is_finished
from shine_exp.figures.style import (
    DIRECTIONS,
    Style,
    legends_below,
    limit_log_y,
    new_figure,
    panel_title,
    plain_log,
    styles,
)
from shine_exp.runs.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "fig2-right"


def draw_inversion(runs: Sequence[Run]) -> Drawing:
    """‖a‖/‖b‖ against cos(a, b): a row of panels for each data set, a column for each estimate."""
    groups = by_setting(
        run for run in runs if run.info["choices"]["outer"] == INVERSION and is_finished(run)
    )
    if not groups:
        return Drawing(
            NAME, None, (f"{NAME}: no finished runs with outer={INVERSION}; {how_to_make(NAME)}",)
        )
    frames = {title: pd.concat([run.trace for run in members]) for title, members in groups.items()}
    estimates = styles(_values(frames, "estimate"))
    directions = styles(_values(frames, "direction"), DIRECTIONS)
    figure, axes = new_figure(len(frames), len(estimates), width=4.8)
    for row, (title, frame) in zip(axes, frames.items(), strict=True):
        for ax, (estimate, style) in zip(row, estimates.items(), strict=True):
            _draw_panel(ax, frame[frame["estimate"] == estimate], directions)
            ax.set_title(panel_title(style.name, title))
            limit_quality(ax, frame)
        row[0].set_ylabel("‖a‖ / ‖b‖")
    legends_below(figure, "a = H d, b = exact inverse · d;  large: median", rows=len(frames))
    return Drawing(NAME, figure)


def draw_cloud(ax: "Axes", part: pd.DataFrame, style: Style, name: str) -> None:
    """The samples of one estimate and direction, and in the legend, under `name`, the medians of
    those that have b.
    """
    without = int(part["cosine"].isna().sum())
    name = f"{name} ({without} of {len(part)} without b)" if without else name
    cosine, ratio = part["cosine"].median(), part["norm_ratio"].median()
    ax.plot(
        part["cosine"],
        part["norm_ratio"],
        style.marker,
        color=style.color,
        alpha=0.3,
        markersize=5,
        mew=0,
    )
    name = f"{name}: median cosine {cosine:.4f}, ratio {ratio:.3g}"
    ax.plot(
        cosine,
        ratio,
        style.marker,
        color=style.color,
        label=name,
        markersize=12,
        mec="black",
        zorder=3,
    )


def limit_quality(ax: "Axes", frame: pd.DataFrame) -> None:
    """Axes for the ratios and cosines of a frame, from the lowest cosine to 1 with a twentieth
    around it.
    """
    limit_log_y(ax, frame["norm_ratio"].tolist())
    plain_log(ax.yaxis)
    cosines = frame["cosine"].to_numpy()
    low = np.min(cosines[np.isfinite(cosines)], initial=1)
    margin = max((1 - low) / 20, 1e-3)
    ax.set_xlim(low - margin, 1 + margin)
    ax.locator_params(axis="x", nbins=6)
    ax.set_xlabel("cos(a, b)")


def _draw_panel(ax: "Axes", frame: pd.DataFrame, directions: Mapping[str, Style]) -> None:
    for direction, style in directions.items():
        part = frame[frame["direction"] == direction]
        if not part.empty:
            draw_cloud(ax, part, style, f"{style.name} d")


def _values(frames: Mapping[str, pd.DataFrame], column: str) -> list[str]:
    return list(dict.fromkeys(value for frame in frames.values() for value in frame[column]))
