"""The error of the hypergradient against its cost, where there are many outer variables.

    relative error ‖a − b‖ / ‖b‖ = √(1 + ρ² − 2 ρ c),    c the cosine of a and b, ρ = ‖a‖ / ‖b‖

a is a method's hypergradient, and b the exact one at the same α, as outer.compare=true has them
measured at each step of a run.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from shine_exp.figures.aggregate import FloatArray, StepFunction, aggregate, quantiles
from shine_exp.figures.axes import draw_curve, legend_for_all, limit_log_y, new_figure, panel_title
from shine_exp.figures.drawing import Drawing, how_to_make
from shine_exp.figures.grouping import by_label, is_finished, place_of, seeds_of
from shine_exp.figures.kinds import is_search
from shine_exp.figures.looks import Style, styles
from shine_exp.figures.names import place_title
from shine_exp.figures.plot import Options, Plot
from shine_exp.runs.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The key that has exact hypergradients found along the run; so begins also that of how often
COMPARE = "outer.compare"
COSINE, RATIO = "exact_cosine", "exact_norm_ratio"


class FigOuter(Plot):
    """Two rows, a column for each problem: error against products, and the cosine along the run."""

    name = "fig-outer"
    claim = "error of the hypergradient against its cost, by problem"

    def reads(self, run: Run) -> bool:
        return is_search(run) and run.info["differs"].get(COMPARE) is True

    def draw(self, runs: Sequence[Run], options: Options) -> Drawing:
        places: dict[str, list[Run]] = {}
        for run in runs:
            if is_finished(run) and COSINE in run.trace:
                places.setdefault(place_of(run), []).append(run)
        if not places:
            missing = f"{self.name}: no finished runs with {COMPARE}=true"
            return Drawing(self.name, None, (f"{missing}; {how_to_make(self.name)}",))
        figure, (errors, angles) = new_figure(2, len(places))
        for above, below, (_, there) in zip(errors, angles, sorted(places.items()), strict=True):
            seeds = len(seeds_of(there))
            title = f"{place_title(there[0])} ({seeds} seed{'s' * (seeds > 1)})"
            above.set(title=panel_title(title, width=40))
            _draw_place(above, below, there)
        legend_for_all(figure, "median and 25 – 75 % of all steps and seeds; below, of seeds")
        return Drawing(self.name, figure)


def _draw_place(above: "Axes", below: "Axes", runs: Sequence[Run]) -> None:
    groups = {_name(label): members for label, members in by_label(runs).items()}
    shown: list[float] = []
    for rank, (label, style) in enumerate(styles(list(groups)).items()):
        shown += _draw_error(above, groups[label], style)
        angles = [_cosines(run) for run in groups[label]]
        draw_curve(below, aggregate(angles, (0.25, 0.75), log=False), style, style.name, rank)
    above.set_xscale("symlog", linthresh=1)
    above.set(xlabel="Hessian products of a hypergradient", ylabel="relative error")
    limit_log_y(above, shown)
    below.set(xlabel="outer steps", ylabel="cosine with the exact hypergradient")


def _draw_error(ax: "Axes", runs: Sequence[Run], style: Style) -> list[float]:
    """A point for a method, at the median of its errors; the three quartiles are returned."""
    errors = np.concatenate([_errors(run) for run in runs])
    per_step = np.concatenate([np.diff(run.trace["products"].to_numpy()) for run in runs])
    low, median, high = quantiles(errors, (0.25, 0.5, 0.75))
    bars = [[median - low], [high - median]]
    line = style.line | {"linestyle": "none"}
    ax.errorbar([np.mean(per_step[1:])], [median], bars, label=style.name, capsize=3, **line)
    return [float(low), float(median), float(high)]


def _errors(run: Run) -> FloatArray:
    """The relative error of each compared hypergradient; one that is not finite is infinite."""
    compared = run.trace[run.trace[COSINE].notna()]
    cosine, ratio = compared[COSINE].to_numpy(), compared[RATIO].to_numpy()
    errors = np.sqrt(np.maximum(1 + ratio**2 - 2 * ratio * cosine, 0.0))
    return np.where(np.isfinite(errors), errors, np.inf)


def _cosines(run: Run) -> StepFunction:
    """The cosine at each step with a compared hypergradient."""
    compared = run.trace[run.trace[COSINE].notna()]
    return compared["step"].to_numpy(), compared[COSINE].to_numpy()


def _name(label: str) -> str:
    """The label without what all runs of the figure have in common."""
    name, _, rest = label.partition(" (")
    kept = [part for part in rest.removesuffix(")").split(", ") if not part.startswith(COMPARE)]
    return f"{name} ({', '.join(kept)})" if any(kept) else name
