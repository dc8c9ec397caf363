"""What `shine-plot` can be asked for: each figure and table by its name, and the runs that it
reads.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from shine_exp.errors import UserError
from shine_exp.figures import table
from shine_exp.figures.backward_time import NAME as BACKWARD_TIME_FIGURE
from shine_exp.figures.backward_time import draw_backward_time
from shine_exp.figures.contractivity import NAME as CONTRACTIVITY_TABLE
from shine_exp.figures.contractivity import draw_contractivity
from shine_exp.figures.convergence import COMPARISONS, draw_comparison, draw_curves
from shine_exp.figures.drawing import Drawing
from shine_exp.figures.groups import NAME as GROUPS_FIGURE
from shine_exp.figures.groups import draw_groups
from shine_exp.figures.inversion import NAME as INVERSION_FIGURE
from shine_exp.figures.inversion import draw_inversion
from shine_exp.figures.network_curves import draw_network_curves
from shine_exp.figures.network_inversion import NAME as NETWORK_INVERSION_FIGURE
from shine_exp.figures.network_inversion import draw_network_inversion
from shine_exp.figures.network_table import NAME as NETWORK_TABLE
from shine_exp.figures.network_table import draw_network_table
from shine_exp.figures.networks import is_training
from shine_exp.figures.read import INVERSION, NETWORK_INVERSION, THEOREM, is_search
from shine_exp.figures.runs import place
from shine_exp.figures.theorem import NAME as THEOREM_FIGURE
from shine_exp.figures.theorem import draw_theorem
from shine_exp.runs.run import Run

CURVES = "curves"


@dataclass(frozen=True)
class Item:
    """A figure or table: `reads` says by its run.json which runs `draw` is to be given."""

    name: str
    reads: Callable[[Run], bool]
    draw: Callable[[Sequence[Run]], Drawing]


def catalogue(runs: Sequence[Run], x: str, published: Path) -> list[Item]:
    """All that there is to ask for, with curves for each place that has runs."""
    return [
        Item(table.NAME, is_search, table.draw_table),
        *(Item(each.name, is_search, partial(draw_comparison, each, x=x)) for each in COMPARISONS),
        Item(INVERSION_FIGURE, partial(_is_study, INVERSION), draw_inversion),
        Item(THEOREM_FIGURE, partial(_is_study, THEOREM), draw_theorem),
        Item(GROUPS_FIGURE, is_search, draw_groups),
        Item(BACKWARD_TIME_FIGURE, is_training, partial(draw_backward_time, published=published)),
        Item(
            NETWORK_INVERSION_FIGURE, partial(_is_study, NETWORK_INVERSION), draw_network_inversion
        ),
        Item(CONTRACTIVITY_TABLE, is_training, draw_contractivity),
        Item(NETWORK_TABLE, is_training, draw_network_table),
        *(
            Item(f"{CURVES}-{where}", is_search, partial(draw_curves, where, x=x))
            for where in _places(runs, is_search)
        ),
        *(
            Item(f"{CURVES}-{where}", is_training, partial(draw_network_curves, where, x=x))
            for where in _places(runs, is_training)
        ),
    ]


def chosen(items: Sequence[Item], names: Sequence[str]) -> list[Item]:
    """The items of these names, all without names; the table of what linear models take goes with
    their figures.

    Raises `UserError` for a name that there is not.
    """
    known = [*(item.name for item in items), CURVES]
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"no such figure: {unknown[0]}; there are: {', '.join(known)}")
    if not names:
        return list(items)
    wanted = {
        item.name for item in items if item.name in names or (CURVES in names and _is_curves(item))
    }
    if any(item.name in wanted and item.reads is is_search for item in items):
        wanted.add(table.NAME)
    return [item for item in items if item.name in wanted]


def _is_curves(item: Item) -> bool:
    return item.name.startswith(f"{CURVES}-")


def _is_study(outer: str, run: Run) -> bool:
    return bool(run.info["choices"]["outer"] == outer)


def _places(runs: Iterable[Run], wanted: Callable[[Run], bool]) -> list[str]:
    return sorted({place(run) for run in runs if wanted(run)})
