"""A figure of the paper that compares methods by their losses against time."""

from collections.abc import Sequence

from shine_exp.figures.convergence import Place, draw_losses
from shine_exp.figures.drawing import Drawing, how_to_make
from shine_exp.figures.grouping import by_label, is_finished, place_of
from shine_exp.figures.kinds import is_search
from shine_exp.figures.names import data_name
from shine_exp.figures.plot import Options, Plot
from shine_exp.runs.run import Run


class Comparison(Plot):
    """From default runs; synthetic data stand in where the real ones have no runs."""

    methods: tuple[str, ...]
    problem: str
    data: tuple[str, ...]  # a row of panels for each
    band: tuple[float, float] = (0.1, 0.9)  # quantiles over seeds

    def reads(self, run: Run) -> bool:
        return is_search(run)

    def draw(self, runs: Sequence[Run], options: Options) -> Drawing:
        places, notes = [], []
        for data in self.data:
            place, lines = self._place(data, runs)
            notes += lines
            if place is not None:
                places.append(place)
        return draw_losses(self.name, places, notes, options.x, self.band)

    def _place(self, data: str, runs: Sequence[Run]) -> tuple[Place | None, list[str]]:
        """What is drawn of one data set, and notes on what is missing there."""
        real, how = f"{self.problem}-{data}", how_to_make(self.name)
        for where in (real, f"{self.problem}-synthetic_{data}"):
            there = [run for run in runs if place_of(run) == where]
            groups = by_label(there)  # under a bare method name: the runs that change no default
            found = {
                method: groups[method]
                for method in self.methods
                if any(map(is_finished, groups.get(method, ())))
            }
            if found:
                break
        else:
            return None, [f"{self.name}: no finished runs on {real}; {how}"]
        notes = []
        if where != real:
            stand_in = f"no finished runs on {real}: drawn from {where} in its place"
            notes.append(f"{self.name}: {stand_in}; {how}")
        if lacking := ", ".join(method for method in self.methods if method not in found):
            notes.append(f"{self.name}: no finished runs of method {lacking} on {where}; {how}")
        title = data_name(there[0].info["choices"]["data"])
        return Place(title, found, there, unfinished=False), notes
