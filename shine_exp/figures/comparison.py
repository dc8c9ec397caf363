"""A figure of the paper that compares methods by their losses against time."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pandas as pd

from shine_exp.figures.convergence import Place, draw_losses
from shine_exp.figures.drawing import Drawing, Table, how_to_make
from shine_exp.figures.grouping import by_label, is_finished, place_of
from shine_exp.figures.headings import lacking
from shine_exp.figures.kinds import is_search
from shine_exp.figures.looks import styles
from shine_exp.figures.names import data_name
from shine_exp.figures.plot import Options, Plot
from shine_exp.figures.summaries import median_columns, spread
from shine_exp.figures.ways_to_best import SHARES, WayToBest, ways_to_best
from shine_exp.runs.run import Run

NOTE = (
    "Until the outer loss is, and stays, within a share of the best end: seeds that got there, of "
    "those that were started; median [lowest, highest] over all finished seeds, one that did not "
    "get there counting as infinite. Products: gradient evaluations + Hessian products. The best "
    "is the lowest outer loss at the end of any run of the seed."
)


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
        drawing = draw_losses(self.name, places, notes, options.x, self.band)
        return replace(drawing, table=_table(places)) if drawing.figure else drawing

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
        missing = lacking(self.methods, found)
        if missing:
            of = f"no finished runs of method {', '.join(missing)} on {where}"
            notes.append(f"{self.name}: {of}; {how}")
        title = data_name(there[0].info["choices"]["data"])
        return Place(title, found, there, unfinished=False, lacking=missing), notes


def _table(places: Sequence[Place]) -> Table | None:
    """What each curve spends until it is near the best; none where no run has an outer loss."""
    ways = [(place, curve) for place in places for curve in _ways(place)]
    if not ways:
        return None
    goals = [f"{100 * share:g} %" for share in SHARES]
    spent = ("seeds within", "s to", "products to")
    of_goals = [f"{what} {goal}" for goal in goals for what in spent]
    header = ("data", "method", *of_goals, "end above best, %")
    lines = tuple(_cells(place, curve) for place, curve in ways)
    data = pd.DataFrame([_numbers(place, curve) for place, curve in ways])
    return Table((header, *lines), NOTE, data)


def _ways(place: Place) -> Iterator[tuple[WayToBest, ...]]:
    """For each curve of a place, its way to each of `SHARES`."""
    found = ways_to_best(place.all_runs)
    for label in place.curves:
        curve = tuple(way for way in found if way.label == label)
        if curve:
            yield curve


def _cells(place: Place, curve: Sequence[WayToBest]) -> tuple[str, ...]:
    label = curve[0].label
    cells = [place.title, styles([label])[label].name]
    for way in curve:
        reached = f"{way.reached} of {way.counts.started}"
        cells += [reached, spread(way.arrivals["time"]), spread(way.arrivals["products"])]
    return (*cells, spread(100 * curve[0].excess))


def _numbers(place: Place, curve: Sequence[WayToBest]) -> dict[str, object]:
    numbers: dict[str, object] = {"data": place.title, "method": curve[0].label}
    for way in curve:
        spent = median_columns(way.arrivals, ("time", "products"))
        numbers |= {f"reached_{way.share:g}": way.reached, "seeds": way.counts.started}
        numbers |= {f"{name}_{way.share:g}": value for name, value in spent.items()}
    return numbers | median_columns(pd.DataFrame({"excess": curve[0].excess}), ("excess",))
