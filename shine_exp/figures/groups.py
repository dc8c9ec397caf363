"""fig-groups: what each method ends at, by the number of hyperparameters."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from shine_exp.figures.aggregate import BEYOND
from shine_exp.figures.drawing import Drawing, how_to_make
from shine_exp.figures.provenance import unsolved
from shine_exp.figures.runs import is_finished, place, place_title, seeds_of
from shine_exp.figures.style import legend_for_all, log_x, new_figure, panel_title, styles
from shine_exp.runs.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "fig-groups"
GROUPS = "problem.groups"
LOSSES = {"outer_loss": "outer loss at the end", "test_loss": "held-out loss at the end"}


def draw_groups(runs: Sequence[Run]) -> Drawing:
    """Median and range over seeds of both losses; a row of panels for each place that has runs
    with several groups.
    """
    plain = [
        run
        for run in runs
        if is_finished(run) and set(run.info["differs"]) <= {GROUPS} and _n_groups(run)
    ]
    places = sorted({place(run) for run in plain if _n_groups(run) > 1})
    if not places:
        return Drawing(
            NAME, None, (f"{NAME}: no finished runs with several groups; {how_to_make(NAME)}",)
        )
    methods = sorted({run.info["choices"]["method"] for run in plain if _n_groups(run) > 1})
    figure, axes = new_figure(len(places), len(LOSSES))
    for row, where in zip(axes, places, strict=True):
        there = [run for run in plain if place(run) == where]
        seeds = seeds_of(run for run in there if _n_groups(run) > 1)
        compared = [run for run in there if run.info["seed"] in seeds]
        title = panel_title(f"{place_title(there[0])} ({len(seeds)} seed{'s' * (len(seeds) != 1)})")
        for ax, (loss, label) in zip(row, LOSSES.items(), strict=True):
            _draw_panel(ax, compared, methods, loss)
            log_x(ax)
            ax.set(xlabel="hyperparameters", ylabel=label, title=title)
    legend_for_all(figure, "median, lowest and highest of the seeds")
    return Drawing(NAME, figure)


def _draw_panel(ax: "Axes", runs: Sequence[Run], methods: Sequence[str], loss: str) -> None:
    seeds = len(seeds_of(runs))
    for method, style in styles(methods).items():
        members = [run for run in runs if run.info["choices"]["method"] == method]
        ends = _ends(members, loss)
        shown = {n: values for n, values in ends.items() if np.isfinite(np.median(values))}
        low, median, high = (
            np.array([how(values) for values in shown.values()]) for how in (min, np.median, max)
        )
        bars = median - low, np.where(np.isfinite(high), high, median) - median
        name = _name(style.name, members, ends, seeds)
        ax.errorbar(list(shown), median, bars, label=name, capsize=3, **style.line)


def _name(name: str, runs: Sequence[Run], ends: Mapping[int, Sequence[float]], seeds: int) -> str:
    """A method in the legend, with what keeps its points from being those of all seeds, solved."""
    fewest, missed = min(map(len, ends.values()), default=0), unsolved(runs)
    failed = sum(not np.isfinite(value) for values in ends.values() for value in values)
    parts = {
        f"{fewest} of {seeds} seeds at fewest": 0 < fewest < seeds,
        f"{failed} end{'s' * (failed != 1)} not finite": failed,
        f"unsolved: {missed}": missed.runs,
    }
    said = [part for part, holds in parts.items() if holds]
    return f"{name} ({'; '.join(said)})" if said else name


def _n_groups(run: Run) -> int:
    """0 where the groups were read from a file."""
    groups = run.info["differs"].get(GROUPS, 1)
    return groups if isinstance(groups, int) else 0


def _ends(runs: Sequence[Run], loss: str) -> dict[int, list[float]]:
    """The last losses of the runs with n groups, by n; one that no axis shows is infinite."""
    ends: dict[int, list[float]] = {}
    for run in sorted(runs, key=_n_groups):
        last = float(run.trace[loss].iloc[-1])
        ends.setdefault(_n_groups(run), []).append(last if abs(last) < BEYOND else np.inf)
    return ends
