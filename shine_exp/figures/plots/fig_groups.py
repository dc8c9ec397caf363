"""What each method ends at, by the number of hyperparameters."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from shine_exp.figures.aggregate import BEYOND
from shine_exp.figures.axes import beside, legend_for_all, log_x, new_figure
from shine_exp.figures.drawing import Drawing, Table, how_to_make
from shine_exp.figures.grouping import is_finished, place_of, seeds_of
from shine_exp.figures.headings import RANGE, heading, lacking
from shine_exp.figures.kinds import is_search
from shine_exp.figures.looks import styles
from shine_exp.figures.names import changed, place_title
from shine_exp.figures.plot import Options, Plot
from shine_exp.figures.provenance import unsolved
from shine_exp.figures.summaries import median_columns, spread
from shine_exp.runs.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

N_GROUPS = "problem.groups"  # the key that says how many hyperparameters there are
LOOP = "outer"  # the key of another outer loop than the usual one
GROUPING = "problem.grouping"  # the key that says which features have one in common
CONTIGUOUS = "contiguous"
GROUPINGS = {CONTIGUOUS: "contiguous groups", "frequency": "groups by document frequency"}
NOTE = "Median [lowest, highest] of the seeds that have runs with several groups."
BESIDE = 6  # points between methods with as many hyperparameters
END_LABELS = {"outer_loss": "outer loss at the end", "test_loss": "held-out loss at the end"}


class FigGroups(Plot):
    """Median and range over seeds of both losses.

    There is a row for each place and grouping with several groups; those of one place compare.
    """

    name = "fig-groups"
    claim = "what methods end at, by the number of hyperparameters"

    def reads(self, run: Run) -> bool:
        return is_search(run)

    def draw(self, runs: Sequence[Run], options: Options) -> Drawing:
        plain = [
            run
            for run in runs
            if is_finished(run)
            and set(run.info["differs"]) <= {N_GROUPS, GROUPING, LOOP}
            and _n_groups(run)
        ]
        several = [run for run in plain if _n_groups(run) > 1]
        places = sorted({(place_of(run), _grouping(run)) for run in several})
        if not places:
            missing = f"{self.name}: no finished runs with several groups"
            return Drawing(self.name, None, (f"{missing}; {how_to_make(self.name)}",))
        methods = sorted(set(map(_method, several)))
        figure, axes = new_figure(len(places), len(END_LABELS))
        _share_losses(axes, [where for where, _ in places])
        for row, (where, grouping) in zip(axes, places, strict=True):
            there = [run for run in plain if place_of(run) == where and _is_grouped(run, grouping)]
            seeds = seeds_of(run for run in there if _n_groups(run) > 1)
            compared = [run for run in there if run.info["seed"] in seeds]
            title = f"{place_title(there[0])}\n{GROUPINGS[grouping]}"
            drawn = set(map(_method, compared))
            title = heading(title, len(seeds), RANGE, lacking(methods, drawn))
            for ax, (loss, label) in zip(row, END_LABELS.items(), strict=True):
                _draw_panel(ax, compared, methods, loss)
                log_x(ax)
                ax.margins(x=0.14)
                ax.set(xlabel="hyperparameters", ylabel=label, title=title)
        legend_for_all(figure)
        return Drawing(self.name, figure, table=_table(plain, places, methods))


def _table(runs: Sequence[Run], places: Sequence[tuple[str, str]], methods: Sequence[str]) -> Table:
    """A row for each point of the figure: both losses, over the seeds that have several groups."""
    lines, numbers = [], []
    for where, grouping in places:
        there = [run for run in runs if place_of(run) == where and _is_grouped(run, grouping)]
        seeds = seeds_of(run for run in there if _n_groups(run) > 1)
        compared = [run for run in there if run.info["seed"] in seeds]
        title = f"{place_title(there[0])}, {GROUPINGS[grouping]}"
        for method, style in styles(methods).items():
            members = [run for run in compared if _method(run) == method]
            ends = {loss: _ends(members, loss) for loss in END_LABELS}
            for n in sorted(set().union(*ends.values())):
                losses = {loss: pd.Series(ends[loss].get(n, []), dtype=float) for loss in ends}
                count = str(max(map(len, losses.values())))
                lines.append((title, str(n), style.name, count, *map(spread, losses.values())))
                names = {"data": title, "hyperparameters": n, "method": method}
                numbers.append(names | median_columns(pd.DataFrame(losses), losses))
    header = ("data", "hyperparameters", "method", "seeds", *END_LABELS.values())
    return Table((header, *lines), NOTE, pd.DataFrame(numbers))


def _share_losses(axes: "Sequence[Sequence[Axes]]", places: Sequence[str]) -> None:
    """Give the panels of a place the same y axis for each loss: so its groupings compare."""
    for row, where in zip(axes, places, strict=True):
        first = axes[places.index(where)]
        if row is not first:
            for ax, other in zip(row, first, strict=True):
                ax.sharey(other)


def _draw_panel(ax: "Axes", runs: Sequence[Run], methods: Sequence[str], loss: str) -> None:
    seeds = len(seeds_of(runs))
    middle = (len(methods) - 1) / 2
    for place, (method, style) in enumerate(styles(methods).items()):
        members = [run for run in runs if _method(run) == method]
        ends = _ends(members, loss)
        shown = {n: values for n, values in ends.items() if np.isfinite(np.median(values))}
        low, median, high = (
            np.array([how(values) for values in shown.values()]) for how in (min, np.median, max)
        )
        bars = median - low, np.where(np.isfinite(high), high, median) - median
        name = _legend(style.name, members, ends, seeds)
        line = style.line | {"capsize": 2, "transform": beside(ax, BESIDE * (place - middle))}
        ax.errorbar(list(shown), median, bars, label=name, **line)
        # What is drawn beside the data does not widen the axes.
        for ends_of_bars in (low, median + bars[1]):
            ax.update_datalim(np.column_stack([list(shown), ends_of_bars]))


def _legend(name: str, runs: Sequence[Run], ends: Mapping[int, Sequence[float]], seeds: int) -> str:
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
    groups = run.info["differs"].get(N_GROUPS, 1)
    return groups if isinstance(groups, int) else 0


def _method(run: Run) -> str:
    """With its outer loop where that is another one: `shine by Adam`."""
    method, differs = run.info["choices"]["method"], run.info["differs"]
    return f"{method} {changed(LOOP, differs[LOOP])}" if LOOP in differs else str(method)


def _grouping(run: Run) -> str:
    return str(run.info["differs"].get(GROUPING, CONTIGUOUS))


def _is_grouped(run: Run, grouping: str) -> bool:
    """A single group is the same however features are grouped: it stands beside all groupings."""
    return _grouping(run) == (grouping if _n_groups(run) > 1 else CONTIGUOUS)


def _ends(runs: Sequence[Run], loss: str) -> dict[int, list[float]]:
    """The last losses of the runs with n groups, by n; one that no axis shows is infinite."""
    ends: dict[int, list[float]] = {}
    for run in sorted(runs, key=_n_groups):
        if loss in run.trace:
            last = float(run.trace[loss].iloc[-1])
            ends.setdefault(_n_groups(run), []).append(last if abs(last) < BEYOND else np.inf)
    return ends
