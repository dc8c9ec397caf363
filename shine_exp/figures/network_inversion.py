"""figE2: how well the forward solvers' inverse estimates do in a trained network, a = Hᵀd against
b = J⁻ᵀd.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from shine_exp.figures.drawing import Drawing, how_to_make
from shine_exp.figures.inversion import draw_cloud, limit_quality
from shine_exp.figures.networks import by_network
from shine_exp.figures.read import NETWORK_INVERSION
from shine_exp.figures.runs import is_finished
from shine_exp.figures.style import (
    METHODS,
    Look,
    Style,
    legends_below,
    new_figure,
    panel_title,
    styles,
)
from shine_exp.runs.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "figE2"
DIRECTIONS = {"prescribed": "prescribed d, ∇L(z*)", "random": "random d"}
ESTIMATES: dict[str, Look] = {
    "jf": METHODS["jf"],
    "shine": ("SHINE, Broyden", *METHODS["shine"][1:]),
    "adjoint_broyden": ("SHINE, adjoint Broyden", "#D55E00", "^"),
    "opa": ("SHINE-OPA, adjoint Broyden", *METHODS["opa"][1:]),
}


def draw_network_inversion(runs: Sequence[Run]) -> Drawing:
    """‖a‖/‖b‖ against cos(a, b) of each sample: a row of panels for each trained network, a column
    per direction.
    """
    chosen = (run for run in runs if run.info["choices"]["outer"] == NETWORK_INVERSION)
    networks = by_network(run for run in chosen if is_finished(run) and len(run.trace))
    frames = {
        (network.title, label): pd.concat([run.trace for run in members])
        for network in networks
        for label, members in network.runs.items()
    }
    if not frames:
        return Drawing(
            NAME,
            None,
            (f"{NAME}: no finished runs with outer={NETWORK_INVERSION}; {how_to_make(NAME)}",),
        )
    figure, axes = new_figure(len(frames), len(DIRECTIONS), width=6.2)
    for row, ((title, method), frame) in zip(axes, frames.items(), strict=True):
        trainer = styles([method])[method].name
        for ax, (direction, name) in zip(row, DIRECTIONS.items(), strict=True):
            part = frame[frame["direction"] == direction]
            _draw_panel(ax, part, styles(list(dict.fromkeys(part["estimate"])), ESTIMATES))
            limit_quality(ax, frame)
            ax.set_title(panel_title(f"{name}; trained by {trainer}", title))
        row[0].set_ylabel("‖a‖ / ‖b‖")
    legends_below(figure, "a = Hᵀd, b = J⁻ᵀd of each sample;  large: median", rows=len(frames))
    return Drawing(NAME, figure)


def _draw_panel(ax: "Axes", frame: pd.DataFrame, estimates: dict[str, Style]) -> None:
    for estimate, style in estimates.items():
        draw_cloud(ax, frame[frame["estimate"] == estimate], style, style.name)
