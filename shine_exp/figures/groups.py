"""fig-groups: what each method ends at, by the number of hyperparameters."""

from collections.abc import Sequence

import numpy as np

from shine_exp.figures.drawing import Drawing, how_to_make
from shine_exp.figures.runs import is_finished, place, seeds_of
from shine_exp.figures.style import PROBLEMS, data_name, legend_for_all, new_figure, panel_title, styles
from shine_exp.trace import Run

NAME = "fig-groups"
GROUPS = "problem.groups"
LOSSES = {"outer_loss": "outer loss at the end", "test_loss": "held-out loss at the end"}


def draw_groups(runs: Sequence[Run]) -> Drawing:
    """Median and range over seeds of both losses; a row of panels for each place that has runs with several groups."""
    plain = [run for run in runs if is_finished(run) and set(run.info["differs"]) <= {GROUPS} and _n_groups(run)]
    places = sorted({place(run) for run in plain if _n_groups(run) > 1})
    if not places:
        return Drawing(NAME, None, (f"{NAME}: no finished runs with several groups; {how_to_make(NAME)}",))
    grouped = {where: [run for run in plain if place(run) == where] for where in places}
    methods = sorted({run.info["choices"]["method"] for run in plain if _n_groups(run) > 1})
    figure, axes = new_figure(len(places), len(LOSSES))
    for row, there in zip(axes, grouped.values(), strict=True):
        several = [run for run in there if _n_groups(run) > 1]
        choices, seeds = several[0].info["choices"], seeds_of(several)
        compared = [run for run in there if run.info["seed"] in seeds]
        count = f"{len(seeds)} seed{'s' * (len(seeds) != 1)}"
        title = f"{PROBLEMS[choices['problem']]}, {data_name(choices['data'])} ({count})"
        for ax, (loss, label) in zip(row, LOSSES.items(), strict=True):
            for method, style in styles(methods).items():
                ends = _ends([run for run in compared if run.info["choices"]["method"] == method], loss)
                low, median, high = (np.array([np.quantile(ends[n], q) for n in ends]) for q in (0, 0.5, 1))
                ax.errorbar(
                    list(ends), median, (median - low, high - median), label=style.name, capsize=3, **style.line
                )
            ax.set(xscale="log", xlabel="hyperparameters", ylabel=label, title=panel_title(title))
    legend_for_all(figure, "median, lowest and highest of the seeds")
    return Drawing(NAME, figure)


def _n_groups(run: Run) -> int:
    """0 where the groups were read from a file."""
    groups = run.info["differs"].get(GROUPS, 1)
    return groups if isinstance(groups, int) else 0


def _ends(runs: Sequence[Run], loss: str) -> dict[int, list[float]]:
    """The finite last losses of the runs with n groups, by n."""
    ends: dict[int, list[float]] = {}
    for run in sorted(runs, key=_n_groups):
        last = run.trace[loss].iloc[-1]
        if np.isfinite(last):
            ends.setdefault(_n_groups(run), []).append(float(last))
    return ends
