"""Rows of traces, and what the tests read off a drawing."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from shine_exp.figures.drawing import Drawing, Table
from shine_exp.figures.plot import Options, Plot
from shine_exp.loop import Row
from shine_exp.runs.run import load_runs

EPOCH: Row = {  # of a network in training
    "step": 0,
    "time": 0.0,
    "epoch": 0,
    "test_loss": 0.5,
    "accuracy": 0.9,
    "spectral_radius": 0.6,
    "train_loss": 0.4,
    "forward_residual": 1e-3,
    "backward_residual": 1e-2,
    "converged": 0.75,
    "products": 6.0,
    "fell_back": "",
    "forward_ms": 20.0,
    "backward_ms": 10.0,
}


def search_row(step: int, time: float, products: int, outer: float, test: float) -> Row:
    """A row of a search over α; half of the products are gradient evaluations."""
    evals = products // 2
    losses = {"alpha": 0.0, "outer_loss": float(outer), "test_loss": float(test)}
    return row_of_costs(step, time, evals, products - evals) | losses


def solved_row(step: int, loss: float, residual: float, inner: int, backward: int) -> Row:
    """A row of a search whose tolerance is 0.1, with its counts of unsolved solves."""
    solve = {"tol": 0.1, "inner_residual": residual}
    unsolved = {"unsolved_inner": inner, "unsolved_backward": backward}
    losses = {"outer_loss": loss, "test_loss": loss}
    return row_of_costs(step, 1.0 + step, 1 + step, 1) | losses | solve | unsolved


def row_of_costs(step: int, time: float, evals: int, products: int) -> dict[str, float]:
    costs = {"inner_steps": 0, "evals": evals, "products": products}
    return {"step": step, "time": float(time)} | costs


def theorem_row(estimate: str, tol: float, error: float, cosine: float) -> Row:
    where = {"step": 0, "time": 0.0, "tol": tol, "estimate": estimate}
    return where | {"relative_error": error, "cosine": cosine}


def quality_row(estimate: str, direction: str, cosine: float, ratio: float) -> Row:
    """A row of either study of inverse estimates."""
    where = {"step": 0, "time": 0.0, "sample": 0, "estimate": estimate, "direction": direction}
    return where | {"cosine": cosine, "norm_ratio": ratio}


def draw(plot: Plot, results: Path, x: str = "time", published: Path | None = None) -> Drawing:
    """What a plot makes of all runs below a folder that it asks for."""
    runs = [run for run in load_runs(results) if plot.reads(run)]
    return plot.draw(runs, Options(x, published or results / "paper" / "fig3.csv"))


def figure_of(drawing: Drawing) -> Figure:
    assert drawing.figure is not None
    return drawing.figure


def table_of(drawing: Drawing) -> Table:
    assert drawing.figure is None
    assert drawing.table is not None
    return drawing.table


def curves_in(ax: Any) -> dict[str, tuple[list[float], list[float]]]:
    """The x and y of each curve of a panel, by its name in the legend."""
    points = {line.get_label(): np.round(line.get_xydata(), 9).T for line in ax.get_lines()}
    return {label: (x.tolist(), y.tolist()) for label, (x, y) in points.items()}
