"""Several traces as one curve.

Each trace is a step function of time, or of products, or of steps: y(x) is the last y at or before
x. The curve has quantiles over seeds at each x.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
StepFunction = tuple[FloatArray, FloatArray]  # x, which must not fall, and y
BEYOND = 1e200  # above whatever an axis shows


@dataclass(frozen=True)
class Curve:
    """Median and band over seeds at each x; constant from one x to the next."""

    x: FloatArray
    median: FloatArray
    low: FloatArray
    high: FloatArray

    @property
    def top(self) -> FloatArray:
        """Where a band that goes up to `high` ends on an axis, which takes no infinite number."""
        return np.minimum(self.high, BEYOND)


def aggregate(traces: Sequence[StepFunction], band: tuple[float, float], *, log: bool) -> Curve:
    """The seeds' median and band on a common grid.

    The grid has every x at which a seed has a row, so that nothing is interpolated. It begins and
    ends at the median first and last x: half of the seeds have begun, half go on. A seed that has
    not begun does not count yet; one that has ended keeps its last value. Values may be infinite,
    not NaN. With `log`, the grid has positive x only.
    """
    traces = [trace for trace in traces if len(trace[0])]
    grid = _grid([x for x, _ in traces], log) if traces else np.empty(0)
    if not len(grid):
        return Curve(*np.empty((4, 0)))
    low, median, high = _quantiles(traces, grid, (band[0], 0.5, band[1]))
    return Curve(grid, median, low, high)


def quantiles(values: FloatArray, shares: Sequence[float]) -> FloatArray:
    """As `numpy.quantile`, of values some of which may be infinite."""
    ordered = np.sort(values)
    parts, below = np.modf((len(ordered) - 1) * np.asarray(shares))
    index = below.astype(int)
    return _between(ordered[index], ordered[np.minimum(index + 1, len(ordered) - 1)], parts)


def _grid(xs: Sequence[FloatArray], log: bool) -> FloatArray:
    first, last = np.median([x[0] for x in xs]), np.median([x[-1] for x in xs])
    rows = np.unique(np.concatenate(xs))
    grid = np.unique([first, *rows[(rows > first) & (rows < last)], last])
    if not log or grid[0] > 0:
        return grid
    positive = grid[grid > 0]
    # What holds from x = 0 to the first row after it can be seen on a logarithmic axis only from
    # some x on.
    return np.concatenate([positive[:1] / 2, positive])


def _quantiles(
    traces: Sequence[StepFunction], grid: FloatArray, shares: Sequence[float]
) -> FloatArray:
    """Quantiles (shares, grid) of the seeds' values at each point, as `numpy.quantile` has them.

    One pass over all rows in the order of x, with the seeds' present values kept sorted: n log n
    for n rows.
    """
    seeds = np.repeat(np.arange(len(traces)), [len(x) for x, _ in traces])
    x, y = (np.concatenate(parts) for parts in zip(*traces, strict=True))
    order = np.argsort(x, kind="stable")
    rows = list(zip(seeds[order].tolist(), y[order].tolist(), strict=True))
    ends = np.searchsorted(x[order], grid, side="right").tolist()
    values: list[float] = []
    of_seed: dict[int, float] = {}
    begin = 0
    neighbours, parts = np.empty((2, len(shares), len(grid))), np.empty((len(shares), len(grid)))
    for point, end in enumerate(ends):
        for seed, value in rows[begin:end]:
            if seed in of_seed:
                del values[bisect_left(values, of_seed[seed])]
            insort(values, value)
            of_seed[seed] = value
        begin = end
        for index, share in enumerate(shares):
            rank, parts[index, point] = divmod((len(values) - 1) * share, 1)
            first, second = int(rank), min(int(rank) + 1, len(values) - 1)
            neighbours[:, index, point] = values[first], values[second]
    below, above = neighbours
    return _between(below, above, parts)


def _between(a: FloatArray, b: FloatArray, t: FloatArray) -> FloatArray:
    """a + t (b − a), rounded as NumPy rounds it; b where it is infinite and t > 0."""
    finite = np.isfinite(b)
    step = np.subtract(b, a, where=finite, out=np.zeros_like(a))
    return np.where(
        finite, np.where(t < 0.5, a + step * t, b - step * (1 - t)), np.where(t > 0, b, a)
    )
