"""Values over seeds, as the cells of a table and as the columns of a CSV."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from shine_exp.figures.aggregate import quantiles

NOTHING = "–"  # a cell for no values


def median_range(values: np.ndarray) -> str:
    """Median [lowest, highest], a dash for no values, `inf` alone where all are."""
    if not len(values):
        return NOTHING
    if np.isinf(values).all():
        return "inf"
    low, median, high = quantiles(values, (0, 0.5, 1))
    return f"{median:.4g} [{low:.4g}, {high:.4g}]"


def spread(values: pd.Series) -> str:
    """As `median_range`, but one value stands alone; a dash where nothing was measured."""
    if values.isna().all():
        return NOTHING
    return f"{values.iloc[0]:.4g}" if len(values) == 1 else median_range(values.to_numpy(float))


def median_range_or_single(values: pd.Series) -> str:
    """As `median_range` of the values that are there; one value stands alone."""
    there = values.dropna().to_numpy(float)
    return f"{there[0]:.4g}" if len(there) == 1 else median_range(there)


def mean_and_deviation(values: pd.Series) -> str:
    """Mean ± standard deviation (n − 1), which one value has not; a dash for no values."""
    there = values.dropna()
    if there.empty:
        return NOTHING
    mean = f"{there.mean():.2f}"
    return f"{mean} ± {there.std():.2f}" if len(there) > 1 else mean


def median_columns(frame: pd.DataFrame, columns: Iterable[str]) -> dict[str, float]:
    """Median, min and max of each column, by the names that they have in a CSV."""
    return {
        f"{name}_{how}": getattr(frame[name], how)()
        for name in columns
        for how in ("median", "min", "max")
    }


def mean_columns(frame: pd.DataFrame, columns: Iterable[str]) -> dict[str, float]:
    """Mean and standard deviation of each column, by the names that they have in a CSV."""
    return {
        f"{name}_{how}": getattr(frame[name], how)() for name in columns for how in ("mean", "std")
    }
