"""Several traces as one curve: each a step function of time (or products, or steps), and quantiles over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Trace = tuple[FloatArray, FloatArray]


@dataclass(frozen=True)
class Curve:
    """Median and band over seeds at each x; constant from one x to the next."""

    x: FloatArray
    median: FloatArray
    low: FloatArray
    high: FloatArray


def step_values(x: FloatArray, y: FloatArray, at: FloatArray) -> FloatArray:
    """The last y recorded at or before each point; before the first NaN, after the last the last. `x` must not fall."""
    index = np.searchsorted(x, at, side="right") - 1
    return np.where(index < 0, np.nan, y[index])


def aggregate(traces: Sequence[Trace], band: tuple[float, float], *, log: bool) -> Curve:
    """The seeds' median and band on a common grid: every x at which a seed has a row, so that nothing is interpolated.

    The grid begins and ends at the median first and last x: half of the seeds have begun, half go on. A seed that has
    not begun does not count yet; one that has ended keeps its last value. With `log`, the grid has positive x only.
    """
    traces = [trace for trace in traces if len(trace[0])]
    grid = _grid([x for x, _ in traces], log) if traces else np.empty(0)
    if not len(grid):
        return Curve(*np.empty((4, 0)))
    values = np.array([step_values(x, y, grid) for x, y in traces])
    low, median, high = np.nanquantile(values, [band[0], 0.5, band[1]], axis=0)
    return Curve(grid, median, low, high)


def _grid(xs: Sequence[FloatArray], log: bool) -> FloatArray:
    first, last = np.median([x[0] for x in xs]), np.median([x[-1] for x in xs])
    rows = np.unique(np.concatenate(xs))
    grid = np.unique([first, *rows[(rows > first) & (rows < last)], last])
    if not log or grid[0] > 0:
        return grid
    positive = grid[grid > 0]
    # What holds from x = 0 to the first row after it can be seen on a logarithmic axis only from some x on.
    return np.concatenate([positive[:1] / 2, positive])
