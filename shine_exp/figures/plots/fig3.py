"""Figure 3 of Ramzi et al. 2022, and its published numbers beside ours."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from shine_exp.errors import UserError
from shine_exp.figures.axes import (
    legend_for_all,
    literal,
    log_x,
    new_figure,
    panel_title,
    plain_log,
)
from shine_exp.figures.drawing import Drawing, Table, how_to_make
from shine_exp.figures.grouping import is_finished
from shine_exp.figures.headings import lacking, of_seeds
from shine_exp.figures.kinds import is_training
from shine_exp.figures.looks import METHODS, styles
from shine_exp.figures.networks import OF_METHOD, Network, by_network, configured, outcomes
from shine_exp.figures.plot import Options, Plot
from shine_exp.figures.summaries import NOTHING
from shine_exp.runs.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MEAN_AND_DEVIATION = "mean ± standard deviation"
ALL_STEPS = "full"  # in place of a number of backward steps
SERIES = {  # of a method
    "full_limited": "original",
    "full": "original",
    "jf": "JF",
    "refine_jf": "JF",
    "shine": "SHINE",
    "refine": "SHINE",
}
STEPS_KEYS = {  # where a method's number of backward steps is configured, and was before
    "full_limited": ("method.max_steps", "method.inverse.max_steps"),
    "refine_jf": ("method.steps.max_steps", "method.inverse.steps.max_steps"),
    "refine": ("method.steps.max_steps", "method.inverse.steps.max_steps"),
}
LOOKS = {
    "original": METHODS["full"].called("Original"),
    "JF": METHODS["jf"],
    "SHINE": METHODS["shine"],
}
NUMBER_OFFSETS = {  # in points, of the number of steps beside a point
    "original": (6, -13),
    "JF": (-6, 3),
    "SHINE": (4, 9),
}
HEADER = (
    *("network", "method", "backward steps", "seeds"),
    *("top-1 (%)", "backward, ms", "times cheaper"),
)
NOTE = "Mean ± std of seeds, and the median of their times; cheaper than the full backward pass."
VANILLA_SHADE, REFINED_SHADE = "0.93", "0.97"
NUMBERS = ("accuracy", "accuracy_std", "backward_ms")
COLUMNS = ("series", "steps", *NUMBERS)  # of the points of a panel
PUBLISHED = ("network", *COLUMNS)  # of the published CSV


class Fig3(Plot):
    """A panel for each trained network, and for each published one if that file is there.

    A point is the mean and standard deviation of top-1 over seeds, and the median of their
    milliseconds.
    """

    name = "fig3"
    claim = "accuracy of networks by the time of a backward pass, beside paper/fig3.csv"

    def reads(self, run: Run) -> bool:
        return is_training(run)

    def draw(self, runs: Sequence[Run], options: Options) -> Drawing:
        finished = [run for run in runs if self.reads(run) and is_finished(run) and len(run.trace)]
        networks = by_network(filter(_is_point, finished))
        panels = [panel for panel in map(_panel, networks) if len(panel.points)]
        notes = [f"{self.name}: {note}" for network in networks for note in _notes(network)]
        if not panels:
            how = how_to_make(self.name)
            nothing = f"{self.name}: no finished runs with outer=train; {how}"
            return Drawing(self.name, None, tuple(notes or [nothing]))
        if options.published.is_file():
            panels.extend(_published_panels(options.published))
        figure, axes = new_figure(1, len(panels), width=6.4, height=5.4)
        for panel, ax in zip(panels, axes[0], strict=True):
            _draw_panel(ax, panel)
        axes[0][0].set_ylabel("top-1 (%)")
        legend_for_all(figure, "at each point: its backward steps")
        return Drawing(self.name, figure, tuple(notes), _table(panels))


def _table(panels: "Sequence[TimePanel]") -> Table:
    """A row for each point: what it is worth, and how often its time goes into the full one's."""
    frames = []
    for panel in panels:
        points = panel.points.sort_values("steps", key=_by_number)
        full = points["backward_ms"][points["steps"] == ALL_STEPS]
        cheaper = (full.iloc[0] if len(full) else np.nan) / points["backward_ms"]
        frames.append(points.assign(network=panel.network, times_cheaper=cheaper))
    data = pd.concat(frames).reindex(columns=["network", *COLUMNS, "seeds", "times_cheaper"])
    return Table((HEADER, *map(_cells, data.to_dict("records"))), NOTE, data)


def _cells(point: dict[Any, Any]) -> tuple[str, ...]:
    accuracy, std = point["accuracy"], point["accuracy_std"]
    return (
        point["network"],
        LOOKS[point["series"]].name,
        point["steps"],
        NOTHING if np.isnan(point["seeds"]) else f"{point['seeds']:.0f}",
        f"{accuracy:.2f}" if np.isnan(std) else f"{accuracy:.2f} ± {std:.2f}",
        f"{point['backward_ms']:.4g}",
        NOTHING if np.isnan(point["times_cheaper"]) else f"{point['times_cheaper']:.2g}",
    )


@dataclass(frozen=True)
class TimePanel:
    """`points` has a row for each series and number of steps, with `COLUMNS`.

    `diverged` counts runs by series.
    """

    network: str
    title: str
    xlabel: str
    points: pd.DataFrame
    diverged: Mapping[str, int]


def points_of(network: Network) -> pd.DataFrame:
    """The points of a network's runs that are done, with the number of `seeds` of each."""
    rows = []
    for members in network.runs.values():
        ends = outcomes(members).dropna(subset="backward_ms")
        if len(ends):
            point = {
                "series": _series(members[0]),
                "steps": steps_of(members[0]),
                "accuracy": ends["accuracy"].mean(),
                "accuracy_std": ends["accuracy"].std(),
                "backward_ms": ends["backward_ms"].median(),
                "seeds": len(ends),
            }
            rows.append(point)
    return pd.DataFrame(rows, columns=[*COLUMNS, "seeds"])


def steps_of(run: Run) -> str:
    """The number of backward steps as a run is configured, or `ALL_STEPS`."""
    method = run.info["choices"]["method"]
    if method in STEPS_KEYS:
        return str(configured(run, *STEPS_KEYS[method]))
    return ALL_STEPS if method == "full" else "0"


def read_published(path: Path) -> pd.DataFrame:
    """The points in a CSV with the columns `PUBLISHED`; a deviation may be missing.

    Raises `UserError` where it has others, or a value is not a number.
    """
    try:
        points = pd.read_csv(path, dtype={"steps": str})
        named = list(points.columns) == list(PUBLISHED) and set(points["series"]) <= set(LOOKS)
        if named and all(pd.api.types.is_numeric_dtype(points[column]) for column in NUMBERS):
            return points
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    expected = f"its columns must be {', '.join(PUBLISHED)}, each series one of: {', '.join(LOOKS)}"
    raise UserError(f"{path}: {expected}")


def _is_point(run: Run) -> bool:
    """Whether a run has an accuracy, and its method only another number of steps than usual."""
    method = run.info["choices"]["method"]
    changed = {key for key in run.info["differs"] if key.startswith(OF_METHOD)}
    usual = method in SERIES and changed <= set(STEPS_KEYS.get(method, ()))
    return usual and "accuracy" in run.trace


def _series(run: Run) -> str:
    return SERIES[run.info["choices"]["method"]]


def _panel(network: Network) -> TimePanel:
    points = points_of(network)
    low, high = min(points["seeds"], default=0), max(points["seeds"], default=0)
    of_all = f"{low} – {high} seeds: {MEAN_AND_DEVIATION}"
    seeds = of_all if low != high else of_seeds(low, MEAN_AND_DEVIATION)
    absent = "; ".join(METHODS[method].name for method in lacking(SERIES, _done(network)))
    title = "\n".join([network.title, seeds, *([f"without {absent}"] * bool(absent))])
    machines = "; ".join(_machines(network.all_runs))
    xlabel = f"backward pass of a batch (ms, median; {machines})"
    diverged = Counter(_series(run) for run in network.all_runs if run.info["status"] == "diverged")
    return TimePanel(network.title, title, xlabel, points, diverged)


def _published_panels(path: Path) -> list[TimePanel]:
    """A panel for each network, in the order of the file."""
    networks = read_published(path).groupby("network", sort=False)
    xlabel = "backward pass of a batch (ms, as published)"
    return [
        TimePanel(f"published: {network}", f"published: {network}", xlabel, points, diverged={})
        for network, points in networks
    ]


def _machines(runs: Iterable[Run]) -> list[str]:
    """The devices that the runs were made on."""
    used = {(str(run.info.get("device", "?")), int(run.info.get("threads", 1))) for run in runs}
    return [
        f"{device}, {n} thread{'s' * (n != 1)}" if device == "cpu" else device
        for device, n in sorted(used)
    ]


def _done(network: Network) -> set[str]:
    """The methods with a run that is done."""
    return {run.info["choices"]["method"] for run in network.all_runs if run.status == "done"}


def _notes(network: Network) -> list[str]:
    """What the panel of a network lacks, and what in it does not compare."""
    notes = []
    done = _done(network)
    if absent := ", ".join(method for method in SERIES if method not in done):
        missing = f"no runs that are done of method {absent} on {network.title}"
        notes.append(f"{missing}; {how_to_make(Fig3.name)}")
    for label, members in network.runs.items():
        if outcomes(members)["backward_ms"].isna().any():
            short = f"{label} on {network.title} has no epoch after pre-training"
            notes.append(f"{short}; take more outer.epochs")
    if len(_machines(network.all_runs)) > 1:
        notes.append(f"{network.title} has times of different machines, which do not compare")
    return notes


def _draw_panel(ax: "Axes", panel: TimePanel) -> None:
    points = panel.points
    _shade_regions(ax, points[points["series"] != "original"])
    for series, style in styles(list(LOOKS), LOOKS).items():
        part = points[points["series"] == series].sort_values("steps", key=_by_number)
        if part.empty:
            continue
        n = panel.diverged.get(series, 0)
        name = f"{style.name} ({n} diverged)" if n else style.name
        line = style.line | {"linestyle": "-", "linewidth": 1, "elinewidth": 0.8, "capsize": 3}
        ax.errorbar(part["backward_ms"], part["accuracy"], part["accuracy_std"], label=name, **line)
        for at in zip(part["steps"], part["backward_ms"], part["accuracy"], strict=True):
            _number(ax, *at, series, style.color)
    ax.margins(0.08, 0.15)
    log_x(ax)
    ax.set(xlabel=literal(panel.xlabel), title=panel_title(*panel.title.splitlines()))
    plain_log(ax.xaxis)


def _by_number(steps: "pd.Series[str]") -> "pd.Series[float]":
    return steps.replace(ALL_STEPS, "inf").astype(float)


def _number(ax: "Axes", steps: str, ms: float, accuracy: float, series: str, color: str) -> None:
    """Write the number of steps beside a point, on a white rim, since other points may be near."""
    from matplotlib.patheffects import withStroke

    offset = NUMBER_OFFSETS[series]
    to_the_right = offset[0] > 0
    rim = [withStroke(linewidth=2.5, foreground="white")]
    text = ax.annotate(literal(steps), (ms, accuracy), offset, textcoords="offset points")
    text.set(ha="left" if to_the_right else "right", color=color, fontsize=10)
    text.set(path_effects=rim, zorder=4)


def _shade_regions(ax: "Axes", points: pd.DataFrame) -> None:
    """Where JF and SHINE have no step, and where they have some, if the two do not overlap."""
    is_vanilla = points["steps"] == "0"
    vanilla, refined = points[is_vanilla]["backward_ms"], points[~is_vanilla]["backward_ms"]
    if len(vanilla) and len(refined) and vanilla.max() >= refined.min():
        return
    regions = (("vanilla", vanilla, VANILLA_SHADE), ("refined", refined, REFINED_SHADE))
    for name, times, shade in regions:
        if len(times):
            left, right = times.min() / 1.15, times.max() * 1.15
            ax.axvspan(left, right, color=shade, zorder=0)
            place: dict[str, Any] = {
                "transform": ax.get_xaxis_transform(),
                "ha": "center",
                "va": "top",
            }
            ax.text((left * right) ** 0.5, 0.98, name, color="0.5", **place)
