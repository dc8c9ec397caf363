"""How far the losses of a search over α are from the best, against what it cost.

    held-out loss − the lowest that any run of the seed passed    (as published)
    |outer loss − the lowest that any run of the seed ended at|

A panel for each loss that a run has measured: a problem need not have a held-out loss.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shine_exp.figures.aggregate import FloatArray, StepFunction, aggregate
from shine_exp.figures.axes import (
    draw_curve,
    legend_for_all,
    limit_log_y,
    log_x,
    new_figure,
)
from shine_exp.figures.best import BestLosses, best_end, best_passed
from shine_exp.figures.drawing import Drawing
from shine_exp.figures.grouping import count, is_finished, seeds_of, setting
from shine_exp.figures.headings import heading, quantile_band
from shine_exp.figures.looks import styles
from shine_exp.figures.provenance import unsolved
from shine_exp.runs.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Loss:
    """A column of the trace, what the axis calls its distance from the best, and which is best."""

    column: str
    label: str
    best: Callable[[Iterable[Run], str], BestLosses]


LOSSES = (
    Loss("test_loss", "held-out loss − best passed", best_passed),
    Loss("outer_loss", "|outer loss − best end|", best_end),
)
COST_LABELS = {
    "time": "time (s)",
    "products": "gradient evaluations + Hessian products",
    "steps": "outer steps",
}


@dataclass(frozen=True)
class Place:
    """The curves of one problem on its data, and all its runs.

    The best loss is the best of all, drawn here or not. With `unfinished`, runs that have not
    ended are drawn as far as they go, and a label need not have all seeds. `lacking` are methods
    that ought to have a curve.
    """

    title: str
    curves: Mapping[str, Sequence[Run]]
    all_runs: Sequence[Run]
    unfinished: bool
    lacking: Sequence[str] = ()


def draw_losses(
    name: str, places: Sequence[Place], notes: Iterable[str], x: str, band: tuple[float, float]
) -> Drawing:
    """A row of panels for each place, and in it a panel for each loss that any run has measured."""
    name = name if x == "time" else f"{name}-{x}"
    if not places:
        return Drawing(name, None, tuple(notes))
    measured = {column for place in places for run in place.all_runs for column in run.trace}
    losses = [loss for loss in LOSSES if loss.column in measured]
    if not losses:
        columns = " or ".join(loss.column for loss in LOSSES)
        return Drawing(name, None, (*notes, f"{name}: no run has a column {columns}"))
    figure, axes = new_figure(len(places), len(losses))
    for place, row in zip(places, axes, strict=True):
        for ax, loss in zip(row, losses, strict=True):
            _draw_panel(ax, place, loss, x, band)
    legend_for_all(figure)
    return Drawing(name, figure, tuple(notes))


def distance_from_best(run: Run, x: str, column: str, best: float) -> StepFunction:
    """Cost and |loss − best| at each step, infinite where the loss is not finite.

    No step where the run has not measured this loss, or there is no best to compare it with.
    """
    trace = run.trace
    if column not in trace or not np.isfinite(best):
        return np.empty(0), np.empty(0)
    losses = trace[column].to_numpy()
    with np.errstate(over="ignore"):
        distance = np.abs(np.where(np.isfinite(losses), losses, np.inf) - best)
    return costs(run, x), distance


def costs(run: Run, x: str) -> FloatArray:
    """What each row of a trace had cost, x being one of `COST_LABELS`."""
    trace = run.trace
    columns = {
        "time": trace["time"],
        "products": trace["evals"] + trace["products"],
        "steps": trace["step"],
    }
    return columns[x].to_numpy()


def _draw_panel(ax: "Axes", place: Place, loss: Loss, x: str, band: tuple[float, float]) -> None:
    seeds = seeds_of(run for runs in place.curves.values() for run in runs)
    best = loss.best(place.all_runs, loss.column)
    medians: list[float] = []
    for rank, (label, style) in enumerate(styles(list(place.curves)).items()):
        runs = place.curves[label]
        drawn = [run for run in runs if place.unfinished or is_finished(run)]
        traces = [
            distance_from_best(run, x, loss.column, best[setting(run), run.info["seed"]])
            for run in drawn
        ]
        curve = aggregate(traces, band, log=x != "steps")
        draw_curve(ax, curve, style, _legend(style.name, runs, seeds, place.unfinished), rank)
        medians += curve.median.tolist()
    if x != "steps":
        log_x(ax)
    limit_log_y(ax, medians)
    title = heading(place.title, len(seeds), quantile_band(band), place.lacking)
    ax.set(xlabel=COST_LABELS[x], ylabel=loss.label, title=title)


def _legend(name: str, runs: Sequence[Run], seeds: set[int], unfinished: bool) -> str:
    """A method in the legend, with what keeps its curve from being that of all seeds, solved."""
    counts = count(runs, seeds_of(runs) if unfinished else seeds)
    missed = unsolved(runs)
    parts = [str(counts)] if counts.done != len(seeds) else []
    if missed.runs:
        parts.append(f"unsolved: {missed}")
    return f"{name} ({'; '.join(parts)})" if parts else name
