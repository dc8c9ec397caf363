"""curves-mdeq-…: test loss and accuracy of a network against what its training cost."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from shine_exp.figures.aggregate import Trace, aggregate
from shine_exp.figures.drawing import Drawing
from shine_exp.figures.networks import Network, by_network
from shine_exp.figures.runs import count, place, seeds_of
from shine_exp.figures.style import (
    Style,
    draw_curve,
    legend_for_all,
    limit_log_y,
    new_figure,
    panel_title,
    plain_log,
    styles,
)
from shine_exp.runs.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BAND = (0.1, 0.9)
X_LABELS = {"time": "training time (s)", "steps": "training steps"}
COSTS = {"time": "time", "steps": "step"}
QUANTITIES = {"test_loss": "test loss", "accuracy": "top-1 (%)"}


def draw_network_curves(where: str, runs: Sequence[Run], x: str) -> Drawing:
    """Every method at one place, unfinished runs too: a row of panels for each model and training
    budget.
    """
    name = f"curves-{where}"
    if x not in COSTS:
        note = f"{name}: not drawn against {x}: a training run has only means per step; take --x time or --x steps"
        return Drawing(f"{name}-{x}", None, (note,))
    networks = by_network(run for run in runs if place(run) == where and len(run.trace))
    if not networks:
        return Drawing(name, None, (f"{name}: no run has a row yet",))
    looks = styles(sorted({label for network in networks for label in network.runs}))
    figure, axes = new_figure(len(networks), len(QUANTITIES))
    for row, network in zip(axes, networks, strict=True):
        for ax, (column, quantity) in zip(row, QUANTITIES.items(), strict=True):
            medians = _draw_panel(ax, network, looks, column, x)
            if column == "test_loss":
                limit_log_y(ax, medians)
                plain_log(ax.yaxis)
            ax.set(xlabel=X_LABELS[x], ylabel=quantity, title=panel_title(network.title))
    legend_for_all(figure, f"median and {100 * BAND[0]:.0f} – {100 * BAND[1]:.0f} % of seeds")
    return Drawing(name if x == "time" else f"{name}-{x}", figure)


def trace_of(run: Run, column: str, x: str) -> Trace:
    """Cost and a measured quantity after each epoch: accuracy in percent, a loss infinite where it
    is not finite.
    """
    frame = run.trace
    cost, values = frame[COSTS[x]].to_numpy(), frame[column].to_numpy()
    known = np.isfinite(values)
    if column == "accuracy":
        return cost[known], 100 * values[known]
    return cost, np.where(known, values, np.inf)


def _draw_panel(
    ax: "Axes", network: Network, looks: Mapping[str, Style], column: str, x: str
) -> list[float]:
    """Draws a curve for each label, and returns its medians."""
    seeds = seeds_of(network.everything)
    medians: list[float] = []
    for index, (label, runs) in enumerate(network.runs.items()):
        style = looks[label]
        curve = aggregate([trace_of(run, column, x) for run in runs], BAND, log=False)
        counts = count(runs, seeds_of(runs))
        name = style.name if counts.done == len(seeds) else f"{style.name} ({counts})"
        draw_curve(ax, curve, style, name, index)
        medians += curve.median.tolist()
    return medians
