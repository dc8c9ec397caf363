"""How good the network is that a search over architectures would choose, step by step."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from shine_exp.figures.aggregate import aggregate
from shine_exp.figures.axes import draw_curve, legend_for_all, new_figure, plain_log
from shine_exp.figures.drawing import Drawing, Table, how_to_make
from shine_exp.figures.grouping import by_setting, is_finished, seeds_of
from shine_exp.figures.headings import RANGE, heading, lacking
from shine_exp.figures.kinds import is_compared, is_search
from shine_exp.figures.looks import styles
from shine_exp.figures.plot import Options, Plot
from shine_exp.figures.summaries import median_columns, spread
from shine_exp.runs.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PROBLEM = "architecture"
# Column of the trace → label of its axis. run.json has what two baselines come to, under the same
# names: rank_conv3x3, rank_random.
PANELS = {"rank": "rank of the choice, of 125", "regret": "regret of the choice"}
BASELINES = {"conv3x3": ("3 × 3 on each edge", (0, (5, 2))), "random": ("at random", (0, (1, 1.5)))}
GOOD = 10  # a rank
HEADER = (
    *("data", "choice of", "seeds", "rank by seed", "mean rank"),
    *(f"seeds within rank {GOOD}", "regret by seed", "median regret", "accuracy"),
)
NOTE = (
    "At the last step. Rank: the place of the chosen network among all 125, each trained alone, by "
    "its outer loss; regret: how far that is above the best. At random: the mean of all networks. "
    "Accuracy: held out, of the mixture that was searched; median [lowest, highest] of the seeds."
)


class FigArchitecture(Plot):
    """A row for each setting: rank and regret by outer step, of runs that have them."""

    name = "fig-architecture"
    claim = "rank and regret of the network that a search would choose"

    def reads(self, run: Run) -> bool:
        is_own = is_search(run) and run.info["choices"]["problem"] == PROBLEM
        return is_own and not is_compared(run)

    def draw(self, runs: Sequence[Run], options: Options) -> Drawing:
        ranked = (run for run in runs if is_finished(run) and "rank" in run.trace)
        groups = by_setting(ranked)
        if not groups:
            missing = f"{self.name}: no finished runs with problem={PROBLEM} and a table"
            return Drawing(self.name, None, (f"{missing}; {how_to_make(self.name)}",))
        figure, axes = new_figure(len(groups), len(PANELS))
        methods = {run.info["choices"]["method"] for run in runs}
        for row, (title, members) in zip(axes, groups.items(), strict=True):
            drawn = {run.info["choices"]["method"] for run in members}
            title = heading(title, len(seeds_of(members)), RANGE, lacking(methods, drawn))
            for ax, (column, label) in zip(row, PANELS.items(), strict=True):
                _draw_panel(ax, members, column)
                ax.set(xlabel="outer step", ylabel=label, title=title)
        legend_for_all(figure)
        return Drawing(self.name, figure, table=_table(groups))


def _table(groups: Mapping[str, Sequence[Run]]) -> Table:
    """A row for each setting and method, and one for each baseline: ranks and regrets by seed."""
    lines, numbers = [], []
    for title, members in groups.items():
        for name, ends in _ends(members).items():
            ranks, regrets = ends["rank"], ends["regret"]
            cells = (
                " ".join(f"{rank:.4g}" for rank in ranks),
                f"{ranks.mean():.3g}",
                f"{(ranks <= GOOD).sum()} of {len(ends)}",
                " ".join(f"{regret:.3g}" for regret in regrets),
                f"{regrets.median():.3g}",
                spread(ends["accuracy"]),
            )
            lines.append((title, name, str(len(ends)), *cells))
            names = {"data": title, "choice_of": name, "mean_rank": ranks.mean()}
            numbers.append(names | median_columns(ends, ("rank", "regret", "accuracy")))
    return Table((HEADER, *lines), NOTE, pd.DataFrame(numbers))


def _ends(runs: Sequence[Run]) -> dict[str, pd.DataFrame]:
    """Rank, regret and accuracy by seed, of each method at its last step and of each baseline."""
    runs = sorted(runs, key=lambda run: run.info["seed"])
    columns = ["rank", "regret", "accuracy"]
    ends: dict[str, pd.DataFrame] = {}
    for method, style in styles(sorted({run.info["choices"]["method"] for run in runs})).items():
        of_method = [run for run in runs if run.info["choices"]["method"] == method]
        last = pd.DataFrame([run.trace.iloc[-1] for run in of_method])
        ends[style.name] = last.reindex(columns=columns).astype(float)
    one_each = {run.info["seed"]: run.info for run in runs}.values()  # the same for all methods
    for baseline, (name, _) in BASELINES.items():
        known = [[info[f"rank_{baseline}"], info[f"regret_{baseline}"]] for info in one_each]
        ends[name] = pd.DataFrame(known, columns=columns[:2], dtype=float).assign(accuracy=np.nan)
    return ends


def _draw_panel(ax: "Axes", runs: Sequence[Run], column: str) -> None:
    methods = sorted({run.info["choices"]["method"] for run in runs})
    for rank, (method, style) in enumerate(styles(methods).items()):
        of_method = [run for run in runs if run.info["choices"]["method"] == method]
        traces = [(run.trace["step"].to_numpy(), run.trace[column].to_numpy()) for run in of_method]
        draw_curve(ax, aggregate(traces, (0, 1), log=False), style, style.name, rank)
    for baseline, (label, dashes) in BASELINES.items():
        value = float(np.median([run.info[f"{column}_{baseline}"] for run in runs]))
        ax.axhline(value, color="0.2", linestyle=dashes, label=label)
    if column == "rank":
        ax.set_yscale("log")
        plain_log(ax.yaxis)
