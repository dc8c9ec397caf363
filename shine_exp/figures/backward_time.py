"""fig3: accuracy of a network against the time of its backward pass, by number of backward steps."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from shine_exp.errors import UserError
from shine_exp.figures.drawing import Drawing, how_to_make
from shine_exp.figures.networks import (
    OF_METHOD,
    Network,
    by_network,
    configured,
    finished_training,
    outcomes,
)
from shine_exp.figures.style import (
    METHODS,
    legend_for_all,
    literal,
    log_x,
    new_figure,
    panel_title,
    plain_log,
    styles,
)
from shine_exp.runs.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "fig3"
FULL = "full"  # in place of a number of steps
SERIES = {
    "full_limited": "original",
    "full": "original",
    "jf": "JF",
    "refine_jf": "JF",
    "shine": "SHINE",
    "refine": "SHINE",
}
STEPS_KEYS = {
    "full_limited": "method.inverse.max_steps",
    "refine_jf": "method.inverse.steps.max_steps",
    "refine": "method.inverse.steps.max_steps",
}
LOOKS = {
    "original": ("Original", *METHODS["full"][1:]),
    "JF": METHODS["jf"],
    "SHINE": METHODS["shine"],
}
OFFSETS = {
    "original": (6, -13),
    "JF": (-6, 3),
    "SHINE": (4, 9),
}  # of the number of steps beside a point, in points
REGIONS = {"vanilla": "0.93", "refined": "0.97"}
PUBLISHED = (
    "published: MDEQ large, CIFAR-10",
    "backward pass of a batch (ms; one V100)",
)  # title, label of the axis
COLUMNS = ("series", "steps", "accuracy", "accuracy_std", "backward_ms")


@dataclass(frozen=True)
class Panel:
    """`points`: a row for each series and number of steps, with `COLUMNS`; `diverged`: runs by
    series.
    """

    title: str
    xlabel: str
    points: pd.DataFrame
    diverged: Mapping[str, int]


def draw_backward_time(runs: Sequence[Run], published: Path) -> Drawing:
    """A panel for each trained network, and one for the published numbers if that file is there.

    A point is the mean and standard deviation of top-1 over seeds, and the median of their
    milliseconds. Raises `UserError` where the file of published numbers is damaged.
    """
    networks = by_network(run for run in finished_training(runs) if _is_point(run))
    panels = [panel for panel in map(_panel, networks) if len(panel.points)]
    notes = [note for network in networks for note in _notes(network)]
    if not panels:
        notes = notes or [f"{NAME}: no finished runs with outer=train; {how_to_make(NAME)}"]
        return Drawing(NAME, None, tuple(notes))
    if published.is_file():
        panels.append(Panel(*PUBLISHED, read_published(published), diverged={}))
    figure, axes = new_figure(1, len(panels), width=6.4, height=5.4)
    for panel, ax in zip(panels, axes[0], strict=True):
        _draw_panel(ax, panel)
    axes[0][0].set_ylabel("top-1 (%)")
    legend_for_all(figure, "at each point: its backward steps; mean ± std of seeds")
    return Drawing(NAME, figure, tuple(notes))


def points_of(network: Network) -> pd.DataFrame:
    """The points of a network's runs that are done, by series and number of steps, with the number
    of `seeds`.
    """
    rows = []
    for members in network.runs.values():
        frame = outcomes(members).dropna(subset="backward_ms")
        if len(frame):
            point = {
                "series": _series(members[0]),
                "steps": steps_of(members[0]),
                "seeds": len(frame),
            }
            point |= {"accuracy": frame["accuracy"].mean(), "accuracy_std": frame["accuracy"].std()}
            rows.append(point | {"backward_ms": frame["backward_ms"].median()})
    return pd.DataFrame(rows, columns=[*COLUMNS, "seeds"])


def steps_of(run: Run) -> str:
    """The number of backward steps as a run is configured, or `FULL`."""
    method = run.info["choices"]["method"]
    if method in STEPS_KEYS:
        return str(configured(run, STEPS_KEYS[method]))
    return FULL if method == "full" else "0"


def read_published(path: Path) -> pd.DataFrame:
    """The points in a CSV with `COLUMNS`.

    Raises `UserError` where it has others, or a value is not a number.
    """
    try:
        frame = pd.read_csv(path, dtype={"steps": str})
        good = list(frame.columns) == list(COLUMNS) and set(frame["series"]) <= set(LOOKS)
        if good and all(pd.api.types.is_numeric_dtype(frame[column]) for column in COLUMNS[2:]):
            return frame
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    raise UserError(
        f"{path}: its columns must be {', '.join(COLUMNS)}, each series one of: {', '.join(LOOKS)}"
    )


def _is_point(run: Run) -> bool:
    """Whether a run changes nothing of its method but the number of steps."""
    method = run.info["choices"]["method"]
    changed = {key for key in run.info["differs"] if key.startswith(OF_METHOD)}
    return method in SERIES and changed <= {STEPS_KEYS.get(method)}


def _series(run: Run) -> str:
    return SERIES[run.info["choices"]["method"]]


def _panel(network: Network) -> Panel:
    runs, points = network.everything, points_of(network)
    low, high = min(points["seeds"], default=0), max(points["seeds"], default=0)
    seeds = f"{low} – {high} seeds" if low != high else f"{low} seed{'s' * (low != 1)}"
    xlabel = f"backward pass of a batch (ms, median; {'; '.join(_machines(runs))})"
    diverged = Counter(_series(run) for run in runs if run.info["status"] == "diverged")
    return Panel(f"{network.title} ({seeds})", xlabel, points, diverged)


def _machines(runs: Iterable[Run]) -> list[str]:
    """The devices that the runs were made on."""
    used = {(str(run.info.get("device", "?")), int(run.info.get("threads", 1))) for run in runs}
    return [
        f"{device}, {n} thread{'s' * (n != 1)}" if device == "cpu" else device
        for device, n in sorted(used)
    ]


def _notes(network: Network) -> list[str]:
    notes, found = (
        [],
        {
            run.info["choices"]["method"]
            for run in network.everything
            if run.info["status"] == "done"
        },
    )
    if lacking := [method for method in SERIES if method not in found]:
        notes.append(
            f"{NAME}: no runs that are done of method {', '.join(lacking)} on {network.title}; {how_to_make(NAME)}"
        )
    for label, members in network.runs.items():
        if outcomes(members)["backward_ms"].isna().any():
            notes.append(
                f"{NAME}: {label} on {network.title} has no epoch after pre-training; take more outer.epochs"
            )
    if len(_machines(network.everything)) > 1:
        notes.append(
            f"{NAME}: {network.title} has times of different machines, which do not compare"
        )
    return notes


def _draw_panel(ax: "Axes", panel: Panel) -> None:
    points = panel.points
    _mark_regions(ax, points[points["series"] != "original"])
    for series, style in styles(list(LOOKS), LOOKS).items():
        part = points[points["series"] == series].sort_values("steps", key=_in_order)
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
    ax.set(xlabel=literal(panel.xlabel), title=panel_title(panel.title))
    plain_log(ax.xaxis)


def _in_order(steps: "pd.Series[str]") -> "pd.Series[float]":
    return steps.replace(FULL, "inf").astype(float)


def _number(ax: "Axes", steps: str, ms: float, accuracy: float, series: str, color: str) -> None:
    """Write the number of steps beside a point, on a white rim, since other points may be near."""
    from matplotlib.patheffects import withStroke

    side = "right" if OFFSETS[series][0] < 0 else "left"
    rim = [withStroke(linewidth=2.5, foreground="white")]
    text = ax.annotate(literal(steps), (ms, accuracy), OFFSETS[series], textcoords="offset points")
    text.set(ha=side, color=color, fontsize=10, path_effects=rim, zorder=4)


def _mark_regions(ax: "Axes", points: pd.DataFrame) -> None:
    """Shade where JF and SHINE have no step, and where they have some, if the two do not overlap."""
    vanilla = points["steps"] == "0"
    spans = [points.loc[where, "backward_ms"] for where in (vanilla, ~vanilla)]
    if any(map(len, spans)) and not spans[0].max() >= spans[1].min():
        for (name, shade), span in zip(REGIONS.items(), spans, strict=True):
            if len(span):
                left, right = span.min() / 1.15, span.max() * 1.15
                ax.axvspan(left, right, color=shade, zorder=0)
                middle = (left * right) ** 0.5
                ax.text(
                    middle,
                    0.98,
                    name,
                    color="0.5",
                    transform=ax.get_xaxis_transform(),
                    ha="center",
                    va="top",
                )
