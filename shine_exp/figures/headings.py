"""What stands over a panel: what it shows, of how many seeds, and which methods it lacks."""

from collections.abc import Iterable

from shine_exp.figures.axes import panel_title
from shine_exp.figures.looks import METHODS

RANGE = "median, lowest and highest"


def heading(title: str, n_seeds: int, shown: str, lacking: Iterable[str] = ()) -> str:
    """The lines of a title, with one on the seeds of the panel, and one on methods that it lacks.

    `shown` is what a curve and its band are where there are several seeds: `median, lowest and
    highest`.
    """
    missing = "; ".join(METHODS[method].name for method in lacking)
    without = [f"without {missing}"] if missing else []
    return panel_title(*title.splitlines(), of_seeds(n_seeds, shown), *without)


def of_seeds(n: int, shown: str) -> str:
    """`10 seeds: median, lowest and highest`; a curve of one seed is no median and has no band."""
    return f"{n} seeds: {shown}" if n > 1 else "one seed"


def quantile_band(band: tuple[float, float]) -> str:
    """`median, 10 – 90 %`."""
    low, high = (f"{100 * share:.0f}" for share in band)
    return f"median, {low} – {high} %"


def lacking(methods: Iterable[str], there: Iterable[str]) -> list[str]:
    """Those of some methods that a panel has no curve of, in the order of all figures."""
    missing = set(methods) - set(there)
    return [method for method in METHODS if method in missing]
