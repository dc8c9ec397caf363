"""One penalty against one for each class: what each method ends at."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from shine_exp.figures.axes import legend_for_all, new_figure
from shine_exp.figures.drawing import Drawing, Table, how_to_make
from shine_exp.figures.grouping import is_finished, place_of, seeds_of
from shine_exp.figures.headings import RANGE, heading, lacking
from shine_exp.figures.kinds import is_search
from shine_exp.figures.looks import styles
from shine_exp.figures.names import place_title
from shine_exp.figures.plot import Options, Plot
from shine_exp.figures.summaries import median_columns, spread
from shine_exp.runs.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PENALTIES = "problem.penalties"  # the key that says which hyperparameters there are
NAMES = {1: "one", "class": "one per class", "feature": "one per feature"}
END_LABELS = {"outer_loss": "outer loss at the end", "test_loss": "held-out loss at the end"}
ENDS = (*END_LABELS, "accuracy")
HEADER = ("data", "penalties", "method", "seeds", *END_LABELS.values(), "accuracy at the end")
NOTE = "Median [lowest, highest] of the seeds."


class FigSoftmax(Plot):
    """A row for each data set on which there are runs with several kinds of penalties."""

    name = "fig-softmax"
    claim = "one penalty against one per class: what methods end at"

    def reads(self, run: Run) -> bool:
        return is_search(run) and run.info["choices"]["problem"] == "softmax"

    def draw(self, runs: Sequence[Run], options: Options) -> Drawing:
        plain = [
            run for run in runs if is_finished(run) and set(run.info["differs"]) <= {PENALTIES}
        ]
        places: dict[str, list[Run]] = {}
        for run in plain:
            places.setdefault(place_of(run), []).append(run)
        compared = [there for there in places.values() if len(set(map(_kind, there))) > 1]
        if not compared:
            missing = f"{self.name}: no finished runs with one penalty and with several"
            return Drawing(self.name, None, (f"{missing}; {how_to_make(self.name)}",))
        figure, axes = new_figure(len(compared), len(END_LABELS))
        methods = {run.info["choices"]["method"] for there in compared for run in there}
        for row, there in zip(axes, compared, strict=True):
            drawn = {run.info["choices"]["method"] for run in there}
            absent = lacking(methods, drawn)
            title = heading(place_title(there[0]), len(seeds_of(there)), RANGE, absent)
            for ax, (loss, label) in zip(row, END_LABELS.items(), strict=True):
                _draw_panel(ax, there, loss)
                ax.set(xlabel="penalties", ylabel=label, title=title)
        legend_for_all(figure)
        return Drawing(self.name, figure, table=_table(compared))


def _table(places: Sequence[Sequence[Run]]) -> Table:
    """A row for each data set, kind of penalties and method."""
    lines, numbers = [], []
    for there in places:
        title = place_title(there[0])
        methods = styles(sorted({run.info["choices"]["method"] for run in there}))
        for kind in _kinds(there):
            for method, style in methods.items():
                last = [
                    {name: float(run.trace[name].iloc[-1]) for name in ENDS if name in run.trace}
                    for run in there
                    if run.info["choices"]["method"] == method and _kind(run) == kind
                ]
                if last:
                    ends = pd.DataFrame(last, columns=ENDS)
                    cells = (spread(ends[name]) for name in ENDS)
                    lines.append((title, _name(kind), style.name, str(len(last)), *cells))
                    names = {"data": title, "penalties": kind, "method": method}
                    numbers.append(names | median_columns(ends, ENDS))
    return Table((HEADER, *lines), NOTE, pd.DataFrame(numbers))


def _draw_panel(ax: "Axes", runs: Sequence[Run], loss: str) -> None:
    kinds = _kinds(runs)
    methods = sorted({run.info["choices"]["method"] for run in runs})
    for rank, (method, style) in enumerate(styles(methods).items()):
        ends = [
            [
                float(run.trace[loss].iloc[-1])
                for run in runs
                if run.info["choices"]["method"] == method and _kind(run) == kind
            ]
            for kind in kinds
        ]
        drawn = [i for i, values in enumerate(ends) if np.isfinite(values).any()]
        median, low, high = (
            np.array([how(ends[i]) for i in drawn]) for how in (np.nanmedian, min, max)
        )
        # Side by side, as equal ends would hide each other.
        x = np.array(drawn) + 0.08 * (rank - (len(methods) - 1) / 2)
        bars = median - low, high - median
        fewest, seeds = min((len(ends[i]) for i in drawn), default=0), len(seeds_of(runs))
        name = style.name if fewest == seeds else f"{style.name} ({fewest} of {seeds} seeds)"
        ax.errorbar(x, median, bars, label=name, capsize=3, **style.line)
    ax.margins(x=0.15)
    ax.set_xticks(range(len(kinds)), map(_name, kinds))


def _kinds(runs: Sequence[Run]) -> list[int | str]:
    """The kinds of penalties that some runs have, by their number."""
    return sorted(set(map(_kind, runs)), key=lambda kind: _size(runs, kind))


def _name(kind: int | str) -> str:
    return NAMES.get(kind, f"{kind} groups")


def _kind(run: Run) -> int | str:
    """The penalties of a run: those of the problem's own file where nothing was changed."""
    kind: int | str = run.info["differs"].get(PENALTIES, "class")
    return kind


def _size(runs: Sequence[Run], kind: int | str) -> int:
    return next(int(run.info["n_hyperparameters"]) for run in runs if _kind(run) == kind)
