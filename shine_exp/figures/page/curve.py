"""The losses of one run against time, small, as points of an SVG."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shine_exp.figures.aggregate import FloatArray
from shine_exp.runs.run import Run

LOSSES = {"outer_loss": "outer loss", "train_loss": "training loss", "test_loss": "held-out loss"}
WIDTH, HEIGHT = 600, 200  # of the panel, in units of the SVG
MOST_POINTS = 150


@dataclass(frozen=True)
class Line:
    """A loss; `points` is what an SVG's polyline takes."""

    name: str
    points: str


@dataclass(frozen=True)
class RunCurve:
    """The lines of a run, and what stands at the ends of both axes."""

    lines: Sequence[Line]
    low: str
    high: str
    end: str
    logarithmic: bool


def curve_of(run: Run) -> RunCurve | None:
    """None where a run has no loss along the way: a study, or one that has just begun."""
    losses = {name: run.trace[name].to_numpy() for name in LOSSES if name in run.trace}
    shown = {name: loss for name, loss in losses.items() if np.isfinite(loss).any()}
    if not shown or len(run.trace) < 2:
        return None
    time = run.trace["time"].to_numpy()
    values = np.concatenate([loss[np.isfinite(loss)] for loss in shown.values()])
    low, high = float(values.min()), float(values.max())
    logarithmic = bool(low > 0 and high > 10 * low)
    lines = [Line(LOSSES[n], _points(time, y, low, high, logarithmic)) for n, y in shown.items()]
    return RunCurve(lines, f"{low:.3g}", f"{high:.3g}", f"{time[-1]:.3g} s", logarithmic)


def _points(time: FloatArray, loss: FloatArray, low: float, high: float, log: bool) -> str:
    there = np.flatnonzero(np.isfinite(loss) & np.isfinite(time))
    if len(there) > MOST_POINTS:
        there = there[np.linspace(0, len(there) - 1, MOST_POINTS).astype(int)]
    scale = np.log if log else np.asarray
    with np.errstate(over="ignore"):
        bottom, span = scale(low), scale(high) - scale(low)
        x = WIDTH * time[there] / (time[-1] or 1)
        y = HEIGHT * (1 - (scale(loss[there]) - bottom) / (span or 1))
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, np.nan_to_num(y), strict=True))
