"""Every method and variant at one place, unfinished runs too, so that a sweep can be watched."""

from collections.abc import Callable, Sequence

from shine_exp.figures.convergence import Place, draw_losses
from shine_exp.figures.drawing import Drawing
from shine_exp.figures.grouping import natural, place_of
from shine_exp.figures.kinds import is_search, is_training
from shine_exp.figures.names import changed, place_title
from shine_exp.figures.network_curves import draw_network_curves
from shine_exp.figures.networks import OF_METHOD, method_label
from shine_exp.figures.plot import Options, Plot
from shine_exp.runs.run import Run

BAND = (0.1, 0.9)  # quantiles over seeds


class Curves(Plot):
    """The curves of one place: of searches over α, or of networks in training."""

    name = "curves"
    claim = "curves-PROBLEM-DATA for each problem and its data: every method and variant"

    def __init__(self, where: str, title: str, is_of_kind: Callable[[Run], bool]) -> None:
        self.name = f"{Curves.name}-{where}"
        self.claim = f"every method and variant: {title}"
        self.where = where
        self.is_of_kind = is_of_kind

    @classmethod
    def all_for(cls, runs: Sequence[Run]) -> list[Plot]:
        return [
            cls(where, title, is_of_kind)
            for is_of_kind in (is_search, is_training)
            for where, title in sorted({_place(run) for run in runs if is_of_kind(run)})
        ]

    def reads(self, run: Run) -> bool:
        return self.is_of_kind(run) and place_of(run) == self.where

    def draw(self, runs: Sequence[Run], options: Options) -> Drawing:
        begun = [run for run in runs if len(run.trace)]
        if not begun:
            return Drawing(self.name, None, (f"{self.name}: no run has a row yet",))
        if self.is_of_kind is is_training:
            return draw_network_curves(self.name, begun, options.x, BAND)
        return draw_losses(self.name, _places(begun), [], options.x, BAND)


def _place(run: Run) -> tuple[str, str]:
    """The place of a run, in names of options and in words."""
    return place_of(run), place_title(run)


def _places(runs: Sequence[Run]) -> list[Place]:
    """A row of panels for each variant of the problem or of the outer loop, the defaults first.

    Variants of a method or its solver are curves of one panel.
    """
    variants: dict[tuple[str, ...], dict[str, list[Run]]] = {}
    for run in runs:
        variant = variants.setdefault(_changes_of_others(run), {})
        variant.setdefault(method_label(run), []).append(run)
    where = place_title(runs[0])
    return [
        Place(", ".join([where, *changes]), dict(sorted(curves.items(), key=natural)), runs, True)
        for changes, curves in sorted(variants.items(), key=_by_number)
    ]


def _changes_of_others(run: Run) -> tuple[str, ...]:
    """What was changed, in words, in all but the method and the solver."""
    changes = run.info["differs"].items()
    return tuple(changed(key, value) for key, value in changes if not key.startswith(OF_METHOD))


def _by_number(item: tuple[tuple[str, ...], object]) -> list[tuple[float, str]]:
    return natural((" ".join(item[0]), None))
