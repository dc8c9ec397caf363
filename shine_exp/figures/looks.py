"""Each method its colour, marker and name, the same in every figure."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class Look(NamedTuple):
    """What is known of a method before it is drawn beside others."""

    name: str
    color: str
    marker: str

    def called(self, name: str) -> "Look":
        """The same look under another name."""
        return self._replace(name=name)


# In the order in which every figure has them. Colours of Okabe and Ito, then of Tol: those of one
# figure differ for colour-blind readers too, and so do the markers.
METHODS = {
    "shine": Look("SHINE", "#0072B2", "o"),
    "refine": Look("SHINE refine", "#56B4E9", "s"),
    "opa": Look("SHINE-OPA", "#882255", "D"),
    "random directions": Look("SHINE, random secant pairs", "#666666", "d"),
    "fallback": Look("SHINE fallback", "#332288", "p"),
    "cg": Look("HOAG", "#D55E00", "^"),
    "cg_limited": Look("HOAG, limited backward", "#E69F00", "v"),
    "lbfgs": Look("L-BFGS backward", "#44AA99", "<"),
    "full": Look("Full inverse", "#000000", "h"),
    "full_limited": Look("Full inverse, limited", "#999999", "8"),
    "jf": Look("Jacobian-Free", "#009E73", "P"),
    "refine_jf": Look("Jacobian-Free refine", "#66C2A5", "X"),
    "neumann": Look("Neumann series", "#6B4226", ">"),
    "nystrom": Look("Nyström sketch", "#EE3377", "H"),
    "phantom": Look("Phantom gradient", "#117733", "<"),
    "unroll": Look("Unrolled", "#AA4499", "H"),
    "first_order": Look("First order", "#CC6677", "<"),
    "grid": Look("Grid search", "#CC79A7", "X"),
    "random": Look("Random search", "#666666", "d"),
    "bayes": Look("Bayesian optimisation", "#999933", "*"),
}
DIRECTIONS = {
    "prescribed": Look("prescribed", "#0072B2", "o"),
    "krylov": Look("Krylov", "#D55E00", "^"),
    "random": Look("random", "#666666", "d"),
}
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#882255")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))


@dataclass(frozen=True)
class Style:
    """How one curve looks and what the legend calls it."""

    name: str
    color: str
    marker: str
    dashes: Any

    @property
    def line(self) -> dict[str, Any]:
        """Keywords for Matplotlib's `plot` and `errorbar`."""
        return {
            "color": self.color,
            "marker": self.marker,
            "linestyle": self.dashes,
            "markeredgecolor": "white",
        }


def styles(labels: Sequence[str], known: Mapping[str, Look] = METHODS) -> dict[str, Style]:
    """A style for each label, in the order of `known`; what is not known comes last.

    Variants of a method share its marker and, ever lighter, its colour; dashes differ.
    """
    places = {method: place for place, method in enumerate(known)}
    labels = sorted(labels, key=lambda label: places.get(_base(label, known), len(places)))
    bases = [_base(label, known) for label in labels]
    chosen: dict[str, Style] = {}
    for index, (label, base) in enumerate(zip(labels, bases, strict=True)):
        look = known.get(base, _any_look(base))
        rank, variants = bases[:index].count(base), bases.count(base)
        # Matplotlib hides what is called _…, so a blank goes before it.
        name = " " * look.name.startswith("_") + look.name + label.removeprefix(base)
        color = _lighten(look.color, 0.6 * rank / max(variants - 1, 3))
        chosen[label] = Style(name, color, look.marker, DASHES[rank % len(DASHES)])
    return chosen


def place_of_name(name: str) -> int:
    """The place of a method by what a legend calls it, and more may follow: `HOAG (1 seed)`."""
    names = [look.name for look in METHODS.values()]
    begins = [known for known in names if name.startswith(known)]
    return names.index(max(begins, key=len)) if begins else len(names)


def _base(label: str, known: Mapping[str, Look]) -> str:
    """The method of a label, which may tell more of it: `cg (memory=5)`."""
    return label if label in known else label.split(" ")[0]


def _any_look(method: str) -> Look:
    """The look of a method that we do not know, the same in each figure."""
    number, color = divmod(zlib.crc32(method.encode()), len(PALETTE))
    return Look(method, PALETTE[color], MARKERS[number % len(MARKERS)])


def _lighten(color: str, share: float) -> str:
    """A colour #RRGGBB that is this share of the way to white."""
    channels = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(c + (255 - c) * share):02X}" for c in channels)
