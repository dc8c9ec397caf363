"""fig1, figE1, figNLS, fig2-left and curves-…: how far both losses are from the best, against what
it cost.

The held-out loss, as published, from the lowest that a run passed; the outer loss from the lowest
that a run ended at.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shine_exp.figures.aggregate import Trace, aggregate
from shine_exp.figures.drawing import Drawing, how_to_make
from shine_exp.figures.provenance import unsolved
from shine_exp.figures.runs import (
    best_end_per_seed,
    best_per_seed,
    by_label,
    count,
    is_finished,
    place,
    place_title,
    seeds_of,
    setting,
)
from shine_exp.figures.style import (
    data_name,
    draw_curve,
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

LOSSES = {
    "test_loss": ("held-out loss − best passed", best_per_seed),
    "outer_loss": ("|outer loss − best end|", best_end_per_seed),
}
X_LABELS = {
    "time": "time (s)",
    "products": "gradient evaluations + Hessian products\n(two passes over the data each)",
    "steps": "outer steps",
}


@dataclass(frozen=True)
class Comparison:
    """A figure of the paper: which methods, on which data of one problem, with which quantiles as
    a band.
    """

    name: str
    methods: tuple[str, ...]
    problem: str
    data: tuple[str, ...]
    band: tuple[float, float] = (0.1, 0.9)


FIG1_METHODS = ("shine", "refine", "cg", "jf", "grid")
COMPARISONS = (
    Comparison("fig1", FIG1_METHODS, "logreg", ("20news", "real_sim")),
    Comparison("fig2-left", ("cg", "shine", "opa"), "logreg", ("20news",), band=(0.25, 0.75)),
    Comparison("figE1", (*FIG1_METHODS, "cg_limited", "random"), "logreg", ("20news", "real_sim")),
    Comparison("figNLS", FIG1_METHODS, "nls", ("20news",)),
)


@dataclass(frozen=True)
class Panel:
    """The curves of one place, and all its runs: the best loss is the best of all, drawn here or
    not.

    With `unfinished`, runs that have not ended are drawn as far as they go, and a label need not
    have all seeds.
    """

    title: str
    curves: Mapping[str, Sequence[Run]]
    everything: Sequence[Run]
    unfinished: bool


def draw_comparison(comparison: Comparison, runs: Sequence[Run], x: str) -> Drawing:
    """A figure of the paper, from default runs; synthetic data stand in where the real ones have
    no runs.
    """
    panels, notes = [], []
    for data in comparison.data:
        panel, lines = _panel(comparison, data, runs)
        notes += lines
        if panel is not None:
            panels.append(panel)
    return _draw(comparison.name, panels, notes, x, comparison.band)


def draw_curves(where: str, runs: Sequence[Run], x: str) -> Drawing:
    """Every method and variant at one place, unfinished runs too, so that a sweep can be watched."""
    name = f"curves-{where}"
    there = [run for run in runs if place(run) == where and len(run.trace)]
    if not there:
        return Drawing(name, None, (f"{name}: no run has a row yet",))
    panel = Panel(place_title(there[0]), by_label(there), there, unfinished=True)
    return _draw(name, [panel], [], x, (0.1, 0.9))


def trace_of(run: Run, x: str, loss: str, best: float) -> Trace:
    """Cost and distance from the best at each step, infinite where the loss is not finite; none
    without a best.
    """
    if not np.isfinite(best):
        return np.empty(0), np.empty(0)
    frame = run.trace
    cost = {
        "time": frame["time"],
        "products": frame["evals"] + frame["products"],
        "steps": frame["step"],
    }[x]
    losses = frame[loss].to_numpy()
    with np.errstate(over="ignore"):
        return cost.to_numpy(), np.abs(np.where(np.isfinite(losses), losses, np.inf) - best)


def _panel(
    comparison: Comparison, data: str, runs: Sequence[Run]
) -> tuple[Panel | None, list[str]]:
    name, real = comparison.name, f"{comparison.problem}-{data}"
    for where in (real, f"{comparison.problem}-synthetic_{data}"):
        there = [run for run in runs if place(run) == where]
        groups = by_label(there)  # under a bare method name: the runs that change no default
        present = [
            method for method in comparison.methods if any(map(is_finished, groups.get(method, ())))
        ]
        found = {method: groups[method] for method in present}
        if found:
            break
    else:
        return None, [f"{name}: no finished runs on {real}; {how_to_make(name)}"]
    notes = []
    if where != real:
        notes.append(
            f"{name}: no finished runs on {real}: drawn from {where} in its place; {how_to_make(name)}"
        )
    if lacking := [method for method in comparison.methods if method not in found]:
        notes.append(
            f"{name}: no finished runs of method {', '.join(lacking)} on {where}; {how_to_make(name)}"
        )
    return Panel(data_name(there[0].info["choices"]["data"]), found, there, unfinished=False), notes


def _draw(
    name: str, panels: Sequence[Panel], notes: Iterable[str], x: str, band: tuple[float, float]
) -> Drawing:
    name = name if x == "time" else f"{name}-{x}"
    if not panels:
        return Drawing(name, None, tuple(notes))
    figure, axes = new_figure(len(panels), len(LOSSES))
    for panel, row in zip(panels, axes, strict=True):
        for ax, (loss, (distance, _)) in zip(row, LOSSES.items(), strict=True):
            _draw_panel(ax, panel, loss, x, band)
            ax.set_ylabel(distance)
    legend_for_all(figure, f"median and {100 * band[0]:.0f} – {100 * band[1]:.0f} % of seeds")
    return Drawing(name, figure, tuple(notes))


def _draw_panel(ax: "Axes", panel: Panel, loss: str, x: str, band: tuple[float, float]) -> None:
    seeds = seeds_of(run for runs in panel.curves.values() for run in runs)
    best = LOSSES[loss][1](panel.everything, loss)
    medians: list[float] = []
    for index, (label, style) in enumerate(styles(list(panel.curves)).items()):
        runs = panel.curves[label]
        drawn = [run for run in runs if panel.unfinished or is_finished(run)]
        traces = [trace_of(run, x, loss, best[setting(run), run.info["seed"]]) for run in drawn]
        curve = aggregate(traces, band, log=x != "steps")
        draw_curve(ax, curve, style, _name(style.name, runs, seeds, panel.unfinished), index)
        medians += curve.median.tolist()
    if x != "steps":
        log_x(ax)
    limit_log_y(ax, medians)
    title = f"{panel.title} ({len(seeds)} seed{'s' * (len(seeds) > 1)})"
    ax.set(xlabel=X_LABELS[x], title=panel_title(title, width=64))


def _name(name: str, runs: Sequence[Run], seeds: set[int], unfinished: bool) -> str:
    """A method in the legend, with what keeps its curve from being that of all seeds, solved."""
    counts, missed = count(runs, seeds_of(runs) if unfinished else seeds), unsolved(runs)
    parts = [str(counts)] if counts.done != len(seeds) else []
    if missed.runs:
        parts.append(f"unsolved: {missed}")
    return f"{name} ({'; '.join(parts)})" if parts else name
