"""One look for every figure: each method its colour, marker and name; sizes; reproducible files."""

import io
import textwrap
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shine_exp.figures.aggregate import BEYOND, Curve
from shine_exp.figures.drawing import replace_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

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

Look = tuple[str, str, str]  # name, colour, marker

# Colours of Okabe and Ito, then of Tol: those of one figure differ for colour-blind readers too,
# and so do the markers.
METHODS: dict[str, Look] = {
    "shine": ("SHINE", "#0072B2", "o"),
    "refine": ("SHINE refine", "#56B4E9", "s"),
    "opa": ("SHINE-OPA", "#882255", "D"),
    "cg": ("HOAG", "#D55E00", "^"),
    "cg_limited": ("HOAG, limited backward", "#E69F00", "v"),
    "jf": ("Jacobian-Free", "#009E73", "P"),
    "grid": ("Grid search", "#CC79A7", "X"),
    "random": ("Random search", "#666666", "d"),
    "bayes": ("Bayesian optimisation", "#999933", "*"),
    "lbfgs": ("L-BFGS backward", "#44AA99", "<"),
    "neumann": ("Neumann series", "#B8860B", ">"),
    "refine_jf": ("Jacobian-Free refine", "#66C2A5", "X"),
    "full": ("Full inverse", "#000000", "h"),
    "full_limited": ("Full inverse, limited", "#999999", "8"),
    "fallback": ("SHINE fallback", "#332288", "p"),
    "unroll": ("Unrolled", "#AA4499", "H"),
    "random directions": ("SHINE, random secant pairs", "#666666", "d"),
}
DIRECTIONS: dict[str, Look] = {
    "prescribed": ("prescribed", "#0072B2", "o"),
    "krylov": ("Krylov", "#D55E00", "^"),
    "random": ("random", "#666666", "d"),
}
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#882255")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
DATA = {
    "20news": "20newsgroups",
    "real_sim": "real-sim",
    "breast_cancer": "breast cancer",
    "cifar10": "CIFAR-10",
    "digits_images": "digits",
    "image_folder": "image folder",
}
PROBLEMS = {"logreg": "logistic regression", "nls": "non-linear least squares", "mdeq": "MDEQ"}


LONGEST = 400  # characters of a name in a figure


@dataclass(frozen=True)
class Style:
    """How one curve looks and what the legend calls it."""

    name: str
    color: str
    marker: str
    dashes: Any

    @property
    def line(self) -> dict[str, Any]:
        return {
            "color": self.color,
            "marker": self.marker,
            "linestyle": self.dashes,
            "markeredgecolor": "white",
        }


def styles(labels: Sequence[str], known: Mapping[str, Look] = METHODS) -> dict[str, Style]:
    """A style for each label.

    Variants of a method share its marker and, ever lighter, its colour; dashes differ.
    """
    bases = [label if label in known else label.split(" ")[0] for label in labels]
    chosen: dict[str, Style] = {}
    for index, (label, base) in enumerate(zip(labels, bases, strict=True)):
        name, color, marker = known.get(base, _any_look(base))
        name = " " * name.startswith("_") + name  # Matplotlib hides what is called _…
        rank, variants = bases[:index].count(base), bases.count(base)
        color = _lighten(color, 0.6 * rank / max(variants - 1, 3))
        chosen[label] = Style(
            name + label.removeprefix(base), color, marker, DASHES[rank % len(DASHES)]
        )
    return chosen


def data_name(data: str) -> str:
    """The data's name in a title; a synthetic stand-in is called one."""
    real = data.removeprefix("synthetic_")
    return (
        f"synthetic stand-in for {DATA[real]}"
        if data != real and real in DATA
        else DATA.get(data, data)
    )


@contextmanager
def house_style() -> Iterator[None]:
    """Draw and save within it: our settings, and none of the user's own matplotlibrc."""
    from matplotlib import style

    with style.context(["default", SETTINGS]), warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # a character that the font lacks, an axis without data
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
    """Give each panel a legend under its axis label, where it covers no data, and the figure the
    height for it.
    """
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


def legend_for_all(figure: "Figure", title: str) -> None:
    """One legend under all panels, where they show the same curves."""
    handles = {
        legend_name(name): handle
        for ax in figure.axes
        for handle, name in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    columns = 3 if max(map(len, handles), default=0) <= 40 else 2
    figure.legend(
        handles.values(), handles.keys(), title=title, ncols=columns, loc="outside lower center"
    )
    width, height = figure.get_size_inches()
    lines = sum(name.count("\n") + 1 for name in handles)
    figure.set_size_inches(width, height + 0.22 * (lines // columns + 2))


def legend_name(name: str) -> str:
    """A name as lines of a legend."""
    return literal(textwrap.fill(_cut(name), 64))


def panel_title(*lines: str, width: int = 48) -> str:
    return literal("\n".join(textwrap.fill(_cut(line), width) for line in lines))


def literal(text: str) -> str:
    """Text as it is: between two dollar signs Matplotlib would look for a formula."""
    return text.replace("$", r"\$")


def draw_curve(ax: "Axes", curve: Curve, style: Style, name: str, rank: int) -> None:
    """A median and its band; markers are shifted by rank, so that those of equal curves can be
    told apart.
    """
    line = style.line | {"drawstyle": "steps-post", "markevery": (0.02 * rank, 0.14)}
    drawn = slice(
        None if np.isfinite(curve.median).any() else 0
    )  # Matplotlib finds no place for markers on nothing
    ax.plot(curve.x[drawn], curve.median[drawn], label=name, **line)
    ax.fill_between(
        curve.x, curve.low, curve.top, step="post", color=style.color, alpha=0.15, linewidth=0
    )


def log_x(ax: "Axes") -> None:
    """Logarithmic x, also where nothing is drawn at a positive x."""
    if not ax.dataLim.minposx < np.inf:
        ax.set_xlim(1, 10)
    ax.set_xscale("log")


def limit_log_y(ax: "Axes", values: Sequence[float], decades: float = 5) -> None:
    """Logarithmic y from the largest value down to the smallest positive one, at most so many
    decades below.
    """
    shown = [value for value in values if 1 / BEYOND < value < BEYOND] or [1.0]
    ax.set_ylim(max(min(shown), max(shown) * 10.0**-decades) / 1.5, max(shown) * 1.5)
    ax.set_yscale("log", nonpositive="clip")


def plain_log(axis: "Axis") -> None:
    """Ticks at 0.5, 1, 2, 5, 10 … for a logarithmic axis of few decades."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_minor_locator(NullLocator())


def save(figure: "Figure", folder: Path, name: str) -> list[Path]:
    """Write name.png and name.pdf: the same figure gives the same bytes, whenever and wherever it
    is drawn.
    """
    png = _rendered(figure, "png", {"Software": None})
    figure.set_layout_engine(
        "none"
    )  # the PDF keeps the places found for the PNG: finding them is half of the work
    pdf = _rendered(figure, "pdf", {"CreationDate": None, "Creator": None, "Producer": None})
    return [replace_file(folder, f"{name}.png", png), replace_file(folder, f"{name}.pdf", pdf)]


def _rendered(figure: "Figure", kind: str, metadata: dict[str, None]) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format=kind, metadata=metadata)
    return content.getvalue()


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


def _any_look(method: str) -> Look:
    """The look of a method that we do not know, the same in each figure."""
    number, color = divmod(zlib.crc32(method.encode()), len(PALETTE))
    return method, PALETTE[color], MARKERS[number % len(MARKERS)]


def _lighten(color: str, share: float) -> str:
    channels = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(c + (255 - c) * share):02X}" for c in channels)
