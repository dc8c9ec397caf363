"""Draws plots one after the other: one that cannot be drawn keeps no other from it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from shine_exp.errors import UserError
from shine_exp.figures.axes import house_style
from shine_exp.figures.drawing import Drawing
from shine_exp.figures.plot import Options, Plot
from shine_exp.runs.run import Run

T = TypeVar("T")


@dataclass(frozen=True)
class Made(Generic[T]):
    """A plot, its drawing without the figure, which takes memory, and what was kept of that."""

    plot: Plot
    drawing: Drawing
    is_figure: bool
    kept: T


def make(
    plots: Sequence[Plot], runs: Sequence[Run], options: Options, keep: Callable[[Drawing], T]
) -> tuple[list[Made[T]], list[UserError]]:
    """Draw each plot and `keep` something of it. Returns that, and why the others failed."""
    made: list[Made[T]] = []
    failed: list[UserError] = []
    with house_style():
        for plot in plots:
            try:
                drawing = plot.draw([run for run in runs if plot.reads(run)], options)
            except UserError as error:
                failed.append(error)
                continue
            is_figure = drawing.figure is not None
            made.append(Made(plot, replace(drawing, figure=None), is_figure, keep(drawing)))
    return made, failed
