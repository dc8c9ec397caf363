"""The quality of an inverse estimate H in a direction d: ‖a‖/‖b‖ against cos(a, b).

a = H d is the estimate's answer and b = J⁻¹ d the exact one; both are 1 where they are equal.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from shine_exp.figures.axes import limit_log_y
from shine_exp.figures.drawing import Table
from shine_exp.figures.looks import Style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NOTE = "Medians over all samples of all seeds: of cos(a, b), and of ‖a‖ / ‖b‖."


def table_of_clouds(clouds: Iterable[tuple[Mapping[str, str], pd.DataFrame]]) -> Table:
    """A row for each cloud: what it is, by the titles of the columns, and its medians."""
    cells, numbers = [], []
    for names, samples in clouds:
        medians = samples[["cosine", "norm_ratio"]].median()
        header = (*names, "samples", "cosine", "ratio")
        shown = (f"{medians['cosine']:.4f}", f"{medians['norm_ratio']:.3g}")
        cells.append((*names.values(), str(len(samples)), *shown))
        numbers.append({**names, "samples": len(samples), **medians})
    return Table((header, *cells), NOTE, pd.DataFrame(numbers))


def draw_cloud(ax: "Axes", samples: pd.DataFrame, style: Style, name: str) -> None:
    """The samples of one estimate and direction, and their median.

    The legend has the medians under `name`, and says of how many samples b is not known.
    """
    without = int(samples["cosine"].isna().sum())
    name = f"{name} ({without} of {len(samples)} without b)" if without else name
    look: dict[str, Any] = {"marker": style.marker, "color": style.color, "linestyle": ""}
    ax.plot(samples["cosine"], samples["norm_ratio"], alpha=0.3, markersize=5, mew=0, **look)
    cosine, ratio = samples["cosine"].median(), samples["norm_ratio"].median()
    label = f"{name}: median cosine {cosine:.4f}, ratio {ratio:.3g}"
    ax.plot(cosine, ratio, label=label, markersize=12, mec="black", zorder=3, **look)


def limit_quality(ax: "Axes", samples: pd.DataFrame) -> None:
    """Axes for all ratios and cosines, from the lowest cosine to 1 with a twentieth around it."""
    limit_log_y(ax, samples["norm_ratio"].tolist())
    cosines = samples["cosine"].to_numpy()
    low = np.min(cosines[np.isfinite(cosines)], initial=1)
    margin = max((1 - low) / 20, 1e-3)
    ax.set_xlim(low - margin, 1 + margin)
    ax.locator_params(axis="x", nbins=6)
    ax.set_xlabel("cos(a, b)")
