"""The error of the hypergradient against its cost, where there are many outer variables.

    relative error ‖a − b‖ / ‖b‖ = √(1 + ρ² − 2 ρ c),    c the cosine of a and b, ρ = ‖a‖ / ‖b‖

a is a method's hypergradient, and b the exact one at the same α, as outer.compare=true has them
measured at some steps of a run.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from shine_exp.figures.aggregate import FloatArray, StepFunction, aggregate, quantiles
from shine_exp.figures.axes import beside, legend_for_all, limit_log_y, new_figure, panel_title
from shine_exp.figures.drawing import Drawing, Table, how_to_make
from shine_exp.figures.grouping import by_setting, is_finished, seeds_of
from shine_exp.figures.headings import lacking, of_seeds
from shine_exp.figures.kinds import COMPARE, is_compared
from shine_exp.figures.looks import METHODS, Style, styles
from shine_exp.figures.plot import Options, Plot
from shine_exp.figures.summaries import median_columns, spread
from shine_exp.runs.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COSINE, RATIO = "exact_cosine", "exact_norm_ratio"
QUARTILES = (0.25, 0.5, 0.75)
TICKS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)  # products
BESIDE = 7  # points between methods that take as many products, which would hide each other
HEADER = (
    *("data", "method", "seeds", "median cosine", "worst cosine", "median relative error"),
    *("products per hypergradient", "held-out loss", "accuracy"),
)
NOTE = (
    "Cosine and relative error, to the exact hypergradient at the same α, over all compared steps "
    "of all seeds; products: Hessian products, the mean over all steps. Held-out loss and accuracy "
    "at the last step: median [lowest, highest] of the seeds."
)


class FigOuter(Plot):
    """Two rows, a column for each problem: error against products, and the cosine along the run."""

    name = "fig-outer"
    claim = "error of the hypergradient against its cost, by problem"

    def reads(self, run: Run) -> bool:
        return is_compared(run)

    def draw(self, runs: Sequence[Run], options: Options) -> Drawing:
        groups = by_setting(run for run in runs if is_finished(run) and COSINE in run.trace)
        if not groups:
            missing = f"{self.name}: no finished runs with {COMPARE}=true"
            return Drawing(self.name, None, (f"{missing}; {how_to_make(self.name)}",))
        methods = _methods([run for members in groups.values() for run in members])
        figure, (errors, angles) = new_figure(2, len(groups))
        for above, below, (title, members) in zip(errors, angles, groups.items(), strict=True):
            absent = "; ".join(METHODS[m].name for m in lacking(methods, _methods(members)))
            n_seeds = len(seeds_of(members))
            of_steps = f"{n_seeds} seed{'s' * (n_seeds > 1)}, all steps: median, 25 – 75 %"
            above.set(title=panel_title(title, of_steps, *([f"without {absent}"] * bool(absent))))
            below.set(title=panel_title(of_seeds(n_seeds, "median at each step")))
            _draw_setting(above, below, members)
        legend_for_all(figure)
        return Drawing(self.name, figure, table=_table(groups))


def _table(groups: Mapping[str, Sequence[Run]]) -> Table:
    """A row for each problem and method."""
    lines, numbers = [], []
    for title, members in groups.items():
        for method, style in styles(_methods(members)).items():
            of_method = [run for run in members if run.info["choices"]["method"] == method]
            cosines = np.concatenate([_cosines(run)[1] for run in of_method])
            errors = np.concatenate([_errors(run) for run in of_method])
            found = {
                "cosine": float(np.median(cosines)),
                "worst_cosine": float(cosines.min()),
                "relative_error": float(np.median(errors)),
                "products": _products(of_method),
            }
            last = [run.trace.iloc[-1] for run in of_method]
            ends = pd.DataFrame(last).reindex(columns=["test_loss", "accuracy"]).astype(float)
            cells = (
                f"{found['cosine']:.3f}",
                f"{found['worst_cosine']:.3f}",
                f"{found['relative_error']:.3g}",
                f"{found['products']:.3g}",
                *(spread(ends[column]) for column in ends),
            )
            lines.append((title, style.name, str(len(of_method)), *cells))
            medians = median_columns(ends, ends.columns)
            numbers.append({"data": title, "method": method, **found, **medians})
    return Table((HEADER, *lines), NOTE, pd.DataFrame(numbers))


def _draw_setting(above: "Axes", below: "Axes", runs: Sequence[Run]) -> None:
    shown: list[float] = []
    costs: list[int] = []
    for method, style in styles(_methods(runs)).items():
        of_method = [run for run in runs if run.info["choices"]["method"] == method]
        cost = round(_products(of_method))
        shown += _draw_error(above, of_method, style, BESIDE * costs.count(cost))
        costs.append(cost)
        curve = aggregate([_cosines(run) for run in of_method], (0.5, 0.5), log=False)
        below.plot(curve.x, curve.median, label=style.name, **style.line)
    above.set_xscale("symlog", linthresh=1)
    most = 1.7 * max(1, *costs)
    above.set_xlim(-0.4, most)
    ticks = [tick for tick in TICKS if tick <= most]
    above.set_xticks(ticks, map(str, ticks))
    above.set(xlabel="Hessian products of a hypergradient", ylabel="relative error")
    limit_log_y(above, shown)
    below.set(xlabel="outer steps", ylabel="cosine with the exact hypergradient")


def _draw_error(ax: "Axes", runs: Sequence[Run], style: Style, offset: float) -> list[float]:
    """A point for a method, at the median of its errors; the three quartiles are returned.

    It is drawn `offset` points to the right of where it is.
    """
    errors = np.concatenate([_errors(run) for run in runs])
    low, median, high = quantiles(errors, QUARTILES)
    bars = [[median - low], [high - median]]
    line = style.line | {"linestyle": "none", "capsize": 3, "transform": beside(ax, offset)}
    ax.errorbar([_products(runs)], [median], bars, label=style.name, **line)
    return [float(low), float(median), float(high)]


def _products(runs: Sequence[Run]) -> float:
    """Hessian products of a hypergradient, from the second on: the first step needs none."""
    per_step = [np.diff(run.trace["products"].to_numpy())[1:] for run in runs]
    return float(np.mean(np.concatenate(per_step)))


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


def _methods(runs: Sequence[Run]) -> list[str]:
    return sorted({run.info["choices"]["method"] for run in runs})
