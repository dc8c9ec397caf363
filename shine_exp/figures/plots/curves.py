"""Every method and variant at one place, unfinished runs too, so that a sweep can be watched."""

from collections.abc import Callable, Sequence

from shine_exp.figures.convergence import Place, draw_losses
from shine_exp.figures.drawing import Drawing
from shine_exp.figures.grouping import by_label, place_of
from shine_exp.figures.kinds import is_search, is_training
from shine_exp.figures.names import place_title
from shine_exp.figures.network_curves import draw_network_curves
from shine_exp.figures.plot import Options, Plot
from shine_exp.runs.run import Run

BAND = (0.1, 0.9)  # quantiles over seeds


class Curves(Plot):
    """The curves of one place: of searches over α, or of networks in training."""

    name = "curves"
    claim = "curves-PROBLEM-DATA for each problem and its data: every method and variant"

    def __init__(self, where: str, is_of_kind: Callable[[Run], bool]) -> None:
        self.name = f"{Curves.name}-{where}"
        self.claim = f"every method and variant on {where}"
        self.where = where
        self.is_of_kind = is_of_kind

    @classmethod
    def all_for(cls, runs: Sequence[Run]) -> list[Plot]:
        return [
            cls(where, is_of_kind)
            for is_of_kind in (is_search, is_training)
            for where in sorted({place_of(run) for run in runs if is_of_kind(run)})
        ]

    def reads(self, run: Run) -> bool:
        return self.is_of_kind(run) and place_of(run) == self.where

    def draw(self, runs: Sequence[Run], options: Options) -> Drawing:
        begun = [run for run in runs if len(run.trace)]
        if not begun:
            return Drawing(self.name, None, (f"{self.name}: no run has a row yet",))
        if self.is_of_kind is is_training:
            return draw_network_curves(self.name, begun, options.x, BAND)
        place = Place(place_title(begun[0]), by_label(begun), begun, unfinished=True)
        return draw_losses(self.name, [place], [], options.x, BAND)
