"""The figure and the table of Sudoku, seed by seed."""

import numpy as np
import pytest
from traces import EPOCH, draw, figure_of, table_of

from shine_exp.figures.plots.fig_sudoku import FigSudoku
from shine_exp.figures.plots.table_sudoku import SudokuTable, sign_test
from shine_exp.loop import Row

WHERE = ("sudoku", "none")
INJECTED = {"problem/cell": "injected"}


def add(add_run, method: str, seed: int, right: float, steps: int | None = None, **more) -> None:
    """A run whose last epoch has so many whole grids; one epoch before it has none."""
    rows: list[Row] = [
        EPOCH
        | {"step": 10 * n, "time": n, "whole_grids": share / 2, "whole_grids_longer": share}
        | {"gradient_cosine": 0.8 + 0.1 * n, "products": more.get("products", 4.0)}
        for n, share in ((0, 0.0), (1, right))
    ]
    key = "method.steps.max_steps" if method.startswith("refine") else "method.max_steps"
    limit = {} if steps is None else {"max_steps": steps}
    config = {"method": {"steps": limit} if method.startswith("refine") else limit}
    differs = {**INJECTED, **({} if steps is None else {key: steps})}
    add_run(
        method,
        seed,
        rows,
        where=WHERE,
        outer="train",
        differs=differs,
        config={"outer": {"pretrain_steps": 0}, **config},
        suffix=f"-{steps}",
        status=more.get("status", "done"),
    )


def test_fig_sudoku_has_a_point_for_each_backward_pass(add_run, results) -> None:
    for seed, right in enumerate((0.9, 0.96, 1.0)):
        add(add_run, "refine", seed, right, steps=3)
    add(add_run, "jf", 0, 0.7)
    figure = figure_of(draw(FigSudoku(), results))
    grids, cosines = figure.axes
    assert "Sudoku with cell injected 3 seeds" in grids.get_title().replace("\n", " ")
    points = {one.get_label(): one for one in grids.containers}
    assert set(points) == {"SHINE refine 3", "Jacobian-Free (2 seeds missing)"}
    (x, y) = points["SHINE refine 3"].lines[0].get_xydata()[0]
    assert (x, y) == (10, pytest.approx(4))
    (bar,) = points["SHINE refine 3"].lines[2]
    assert np.ravel(bar.get_segments()[0][:, 1]) == pytest.approx([0, 10], abs=1e-9)
    assert cosines.containers[0].lines[0].get_ydata()[0] == pytest.approx(0.15)


def test_fig_sudoku_against_products_leaves_out_what_makes_none(add_run, results) -> None:
    add(add_run, "refine", 0, 0.9, steps=3)
    add(add_run, "unroll", 0, 0.9, products="")
    figure = figure_of(draw(FigSudoku(), results, x="products"))
    assert [one.get_label() for one in figure.axes[0].containers] == ["SHINE refine 3"]
    assert draw(FigSudoku(), results, x="steps").figure is None


def test_table_sudoku_compares_seed_by_seed(add_run, results) -> None:
    for seed, (refined, free) in enumerate(((0.9, 0.8), (0.8, 0.9), (1.0, 0.9), (0.9, 0.9))):
        add(add_run, "refine", seed, refined, steps=3)
        add(add_run, "jf", seed, free)
    add(add_run, "refine", 4, 0.0, steps=3, status="running")
    table = table_of(draw(SudokuTable(), results))
    rows = {line[1]: line for line in table.lines[1:]}
    assert rows["jf"][2:4] == ("4", "90 [80, 90]")
    assert rows["jf"][-1] == "2 of 3, p = 0.5"
    assert rows["refine 3"][-1] == "–"
    numbers = table.data.set_index("backward_pass")
    assert numbers.loc["jf", ["reference_above", "compared"]].tolist() == [2, 3]


def test_sign_test_is_the_tail_of_a_fair_coin() -> None:
    assert sign_test(5, 5) == pytest.approx(1 / 32)
    assert sign_test(2, 3) == pytest.approx(0.5)
    assert sign_test(0, 4) == pytest.approx(1)


def test_sudoku_plots_without_runs_say_how_to_make_them(add_run, results) -> None:
    add(add_run, "jf", 0, 0.9, status="running")
    for plot in (FigSudoku(), SudokuTable()):
        how = "make them with: shine-run -m experiment=fig_sudoku"
        missing = f"{plot.name}: no finished runs with problem=sudoku; {how}"
        assert draw(plot, results).notes == (missing,)
