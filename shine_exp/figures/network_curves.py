"""What a network in training is worth, against what its training cost.

A panel for each of test loss and accuracy that the task measures; the training loss where it
measures neither.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from shine_exp.figures.aggregate import StepFunction, aggregate
from shine_exp.figures.axes import (
    draw_curve,
    legend_for_all,
    limit_log_y,
    new_figure,
)
from shine_exp.figures.drawing import Drawing
from shine_exp.figures.grouping import count, seeds_of
from shine_exp.figures.headings import heading, quantile_band
from shine_exp.figures.looks import Style, styles
from shine_exp.figures.networks import Network, by_network, measured_by_any
from shine_exp.runs.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COST_COLUMNS = {"time": "time", "steps": "step"}
COST_LABELS = {"time": "training time (s)", "steps": "training steps"}
TRAIN_LOSS = {"train_loss": "training loss"}
TEST_QUANTITIES = {"test_loss": "test loss", "accuracy": "top-1 (%)"}


def draw_network_curves(
    name: str, runs: Sequence[Run], x: str, band: tuple[float, float]
) -> Drawing:
    """Every method at one place: a row of panels for each model and training budget."""
    file = name if x == "time" else f"{name}-{x}"
    if x not in COST_COLUMNS:
        why = "a training run has only means per step; take --x time or --x steps"
        return Drawing(file, None, (f"{name}: not drawn against {x}: {why}",))
    shown = measured_by_any(runs, TEST_QUANTITIES) or measured_by_any(runs, TRAIN_LOSS)
    if not shown:
        columns = ", ".join([*TEST_QUANTITIES, *TRAIN_LOSS])
        return Drawing(file, None, (f"{name}: no run has any of the columns {columns}",))
    networks = by_network(runs)
    looks = styles(sorted({label for network in networks for label in network.runs}))
    figure, axes = new_figure(len(networks), len(shown))
    for row, network in zip(axes, networks, strict=True):
        for ax, (column, label) in zip(row, shown.items(), strict=True):
            medians = _draw_panel(ax, network, looks, column, x, band)
            if column != "accuracy":
                limit_log_y(ax, medians)
            n_seeds = len(seeds_of(network.all_runs))
            title = heading(network.title, n_seeds, quantile_band(band))
            ax.set(xlabel=COST_LABELS[x], ylabel=label, title=title)
    legend_for_all(figure)
    return Drawing(file, figure)


def after_each_epoch(run: Run, column: str, x: str) -> StepFunction:
    """Cost and a measured quantity: accuracy in percent, a loss infinite where it is not finite."""
    if column not in run.trace:
        return np.empty(0), np.empty(0)
    cost = run.trace[COST_COLUMNS[x]].to_numpy()
    values = run.trace[column].to_numpy()
    known = np.isfinite(values)
    if column == "accuracy":
        return cost[known], 100 * values[known]
    return cost, np.where(known, values, np.inf)


def _draw_panel(
    ax: "Axes",
    network: Network,
    looks: Mapping[str, Style],
    column: str,
    x: str,
    band: tuple[float, float],
) -> list[float]:
    """Draws a curve for each label, and returns its medians."""
    seeds = seeds_of(network.all_runs)
    medians: list[float] = []
    for rank, (label, runs) in enumerate(network.runs.items()):
        style = looks[label]
        curve = aggregate([after_each_epoch(run, column, x) for run in runs], band, log=False)
        counts = count(runs, seeds_of(runs))
        name = style.name if counts.done == len(seeds) else f"{style.name} ({counts})"
        draw_curve(ax, curve, style, name, rank)
        medians += curve.median.tolist()
    return medians
