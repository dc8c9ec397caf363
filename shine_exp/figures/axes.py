"""One appearance for every figure: sizes, panels, legends, axes, and the files."""

import io
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from shine_exp.figures.aggregate import BEYOND, Curve
from shine_exp.figures.drawing import replace_file
from shine_exp.figures.looks import Style, place_of_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.transforms import Transform

SETTINGS = {
    "font.size": 12,
    "axes.titlesize": 13,
    "axes.labelsize": 13,
    "legend.fontsize": 11,
    "legend.frameon": False,
    "legend.handlelength": 3.2,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "lines.linewidth": 2.0,
    "lines.markersize": 7.5,
    "lines.markeredgewidth": 0.7,
    "pdf.fonttype": 42,
    "savefig.dpi": 150,
}

LONGEST = 400  # characters of a name in a figure
ENTRY, LETTER = 0.8, 0.085  # inches of a legend's column: its sample of a line, and a letter
MOST_COLUMNS = 3


@contextmanager
def house_style() -> Iterator[None]:
    """Draw and save within it: our settings, and none of the user's own matplotlibrc."""
    from matplotlib import style

    with style.context(["default", SETTINGS]), warnings.catch_warnings():
        # Matplotlib warns of a character that the font lacks, and of an axis without data.
        warnings.simplefilter("ignore", UserWarning)
        yield


def new_figure(
    rows: int, columns: int, width: float = 5.6, height: float = 4.2
) -> "tuple[Figure, list[list[Axes]]]":
    """An empty figure of rows × columns panels, each `width` × `height` inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.grid(True, which="major")
    return figure, [list(row) for row in axes]


def legends_below(figure: "Figure", title: str, rows: int = 1) -> None:
    """Give each panel a legend under its axis label, and the figure the height for it."""
    from matplotlib.transforms import ScaledTranslation

    tallest = 0
    for ax in figure.axes:
        handles, names = ax.get_legend_handles_labels()
        names = [legend_name(name) for name in names]
        columns = 2 if max(map(len, names), default=0) <= 25 else 1
        lines = sum(name.count("\n") + 1 for name in names)
        tallest = max(tallest, -(-lines // columns) + 1)
        below = -0.55 - 0.2 * ax.get_xlabel().count("\n")
        anchor = ax.transAxes + ScaledTranslation(0, below, figure.dpi_scale_trans)
        legend = ax.legend(handles, names, title=title, ncols=columns, loc="upper center")
        legend.set_bbox_to_anchor((0.5, 0), anchor)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.22 * tallest * rows)


def legend_for_all(figure: "Figure", title: str = "") -> None:
    """One legend under all panels, where they show the same curves, in the order of the methods."""
    found = {
        legend_name(name): handle
        for ax in figure.axes
        for handle, name in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    handles = dict(sorted(found.items(), key=lambda item: place_of_name(item[0])))
    longest = max((len(line) for name in handles for line in name.split("\n")), default=0)
    columns = int(figure.get_figwidth() // (ENTRY + longest * LETTER))
    columns = max(1, min(columns, MOST_COLUMNS))
    figure.legend(
        handles.values(), handles.keys(), title=title, ncols=columns, loc="outside lower center"
    )
    width, height = figure.get_size_inches()
    lines = sum(name.count("\n") + 1 for name in handles)
    figure.set_size_inches(width, height + 0.22 * (lines // columns + 2))


def legend_name(name: str) -> str:
    """A name as lines of a legend."""
    return panel_title(name, width=64)


def panel_title(*lines: str, width: int = 48) -> str:
    """Lines of a title, each cut and wrapped."""
    cut = (line if len(line) <= LONGEST else line[:LONGEST] + "…" for line in lines)
    return literal("\n".join(textwrap.fill(line, width) for line in cut))


def literal(text: str) -> str:
    """Text as it is: between two dollar signs Matplotlib would look for a formula."""
    return text.replace("$", r"\$")


def draw_curve(ax: "Axes", curve: Curve, style: Style, name: str, rank: int) -> None:
    """A median and its band; `rank` is the curve's number in the panel."""
    # Markers are shifted by rank, so that those of equal curves can be told apart.
    line = style.line | {"drawstyle": "steps-post", "markevery": (0.02 * rank, 0.14)}
    # Matplotlib finds no place for markers on a curve without a finite value.
    drawn = slice(None if np.isfinite(curve.median).any() else 0)
    ax.plot(curve.x[drawn], curve.median[drawn], label=name, **line)
    draw_band(ax, curve, style, step="post")


def draw_band(ax: "Axes", curve: Curve, style: Style, step: Literal["post"] | None = None) -> None:
    """The band of a curve, behind its median."""
    look: dict[str, Any] = {"color": style.color, "alpha": 0.15, "linewidth": 0}
    ax.fill_between(curve.x, curve.low, curve.top, step=step, **look)


def beside(ax: "Axes", offset: float) -> "Transform":
    """To draw `offset` points to the right of the data, so that equal values do not hide."""
    from matplotlib.transforms import ScaledTranslation

    figure = ax.get_figure()
    assert figure is not None
    return ax.transData + ScaledTranslation(offset / 72, 0, figure.dpi_scale_trans)


def log_x(ax: "Axes") -> None:
    """Logarithmic x, also where nothing is drawn at a positive x."""
    if not ax.dataLim.minposx < np.inf:
        ax.set_xlim(1, 10)
    ax.set_xscale("log")
    readable_log(ax.xaxis, *ax.get_xlim())


def readable_log(axis: "Axis", low: float, high: float) -> None:
    """At least two labels on a logarithmic axis, and none over another."""
    # Of a short range Matplotlib would label every tenth and hundredth, of a longer one perhaps
    # a single power of ten.
    if high < 5 * low:
        short_log(axis, low, high)
    elif high < 100 * low:
        plain_log(axis)


def short_log(axis: "Axis", low: float, high: float) -> None:
    """A few round ticks, evenly spaced in value, for a logarithmic axis of half a decade."""
    from matplotlib.ticker import FixedLocator, FormatStrFormatter, MaxNLocator, NullLocator

    ticks = MaxNLocator(nbins=5, steps=[1, 2, 5, 10]).tick_values(low, high)
    axis.set_major_locator(FixedLocator([tick for tick in ticks if tick > 0]))
    axis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_minor_locator(NullLocator())


def limit_log_y(ax: "Axes", values: Sequence[float], decades: float = 5) -> None:
    """Logarithmic y, from the largest value down to the smallest positive one.

    It goes down by `decades` at most.
    """
    shown = [value for value in values if 1 / BEYOND < value < BEYOND] or [1.0]
    low, high = max(min(shown), max(shown) * 10.0**-decades), max(shown)
    margin = min(max((high / low) ** 0.1, 1.05), 1.5)
    low, high = low / margin, high * margin
    ax.set_ylim(low, high)
    ax.set_yscale("log", nonpositive="clip")
    readable_log(ax.yaxis, low, high)


def plain_log(axis: "Axis") -> None:
    """Ticks at 0.5, 1, 2, 5, 10 … for a logarithmic axis of few decades."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_minor_locator(NullLocator())


def save(figure: "Figure", folder: Path, name: str) -> list[Path]:
    """Write name.png and name.pdf.

    The same figure gives the same bytes, whenever and wherever it is drawn.
    """
    png = _rendered(figure, "png", {"Software": None})
    # The PDF keeps the places that were found for the PNG: finding them is half of the work.
    figure.set_layout_engine("none")
    pdf = _rendered(figure, "pdf", {"CreationDate": None, "Creator": None, "Producer": None})
    return [replace_file(folder, f"{name}.png", png), replace_file(folder, f"{name}.pdf", pdf)]


def svg(figure: "Figure") -> bytes:
    """The figure as an SVG without a background, its letters as shapes: no font is needed."""
    from matplotlib import rc_context

    with rc_context({"svg.hashsalt": "shine_exp", "savefig.transparent": True}):
        return _rendered(figure, "svg", {"Date": None, "Creator": None})


def _rendered(figure: "Figure", kind: str, metadata: dict[str, None]) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format=kind, metadata=metadata)
    return content.getvalue()
