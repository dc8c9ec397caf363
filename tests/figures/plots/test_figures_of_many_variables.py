"""Figures of data cleaning, of penalties per class, and of hypergradients by their cost."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from traces import curves_in, draw, figure_of, search_row

from shine_exp.figures.plots.fig_cleaning import FigCleaning
from shine_exp.figures.plots.fig_outer import FigOuter
from shine_exp.figures.plots.fig_softmax import FigSoftmax

CLEANING = ("cleaning", "digits_classes")
SOFTMAX = ("softmax", "20news_classes")


def baselines(all_rows: float) -> dict[str, Any]:
    right = {"accuracy": 0.97, "f1": 1.0, "weight_on_wrong": 0.0}
    every = {"accuracy": all_rows, "f1": 0.0, "weight_on_wrong": 0.5}
    return {"baselines": {"right rows only": right, "all rows": every}}


def cleaned_row(step: int, accuracy: float) -> dict[str, Any]:
    row = dict(search_row(step, 1.0 + step, 10 * step, 1.0, 1.0))
    return row | {"accuracy": accuracy, "f1": accuracy - 0.1, "weight_on_wrong": 0.2}


def test_fig_cleaning_has_measures_and_baselines_of_the_runs(add_run, results: Path) -> None:
    for seed, all_rows in enumerate([0.8, 0.82, 0.9]):
        rows = [cleaned_row(0, 0.1), cleaned_row(1, 0.85), cleaned_row(2, 0.9 + seed / 100)]
        add_run("shine", seed, rows, where=CLEANING, outer="adam", info=baselines(all_rows))
    compared = {"outer.compare": True, "outer.compare_every": 5}  # of fig-outer, not of this one
    rows = [cleaned_row(step, 0.2) for step in range(3)]
    info = baselines(0.8)
    for seed in range(2):
        add_run("shine", seed, rows, where=CLEANING, differs=compared, suffix="-c", info=info)
    drawing = draw(FigCleaning(), results, "steps")
    accuracy, f1, weight = figure_of(drawing).axes
    curves = curves_in(accuracy)
    assert curves["SHINE"] == ([2], [0.91])
    assert curves["right rows only"][1] == [0.97, 0.97]
    assert curves["all rows"][1] == [0.82, 0.82]
    assert curves_in(f1)["SHINE"][1] == [0.81]
    assert curves_in(weight)["SHINE"][1] == [0.2]
    assert drawing.table is not None
    _, shine, right, every = (line[2:] for line in drawing.table.lines)
    below, above = "6 [5, 7]", "9 [2, 10]"
    assert shine == ("3", "91 [90, 92]", below, above, "0.81 [0.8, 0.82]", "20 [20, 20]")
    assert right[1:3] == ("97 [97, 97]", "0 [0, 0]")
    assert every[1:4] == ("82 [80, 90]", "15 [7, 17]", "0 [0, 0]")
    assert accuracy.get_title().startswith("data cleaning, digits, ten classes\n3 seeds: ")


def ends(outer: float, test: float) -> list[tuple[float, int, float, float]]:
    return [(0, 0, 9, 9), (1, 1, outer, test)]


def test_fig_softmax_has_last_losses_by_kind_of_penalties(add_run, results: Path) -> None:
    for seed in range(2):
        for method, better in (("shine", 0.0), ("cg", 0.1)):
            per_class = ends(0.5 - better + seed / 10, 0.6 - better)
            add_run(method, seed, per_class, where=SOFTMAX, info={"n_hyperparameters": 20})
            add_run(
                method,
                seed,
                ends(0.7 + seed / 10, 0.8),
                where=SOFTMAX,
                differs={"problem.penalties": 1},
                suffix="-1",
                info={"n_hyperparameters": 1},
            )
    drawing = draw(FigSoftmax(), results)
    outer, test = figure_of(drawing).axes
    assert [tick.get_text() for tick in outer.get_xticklabels()] == ["one", "one per class"]
    of_shine, of_cg = (bars.lines[0].get_ydata() for bars in outer.containers)
    np.testing.assert_allclose(of_cg, [0.75, 0.45])
    np.testing.assert_allclose(of_shine, [0.75, 0.55])
    np.testing.assert_allclose(test.containers[0].lines[0].get_ydata(), [0.8, 0.6])
    assert drawing.table is not None
    assert [line[1:] for line in drawing.table.lines[1:]] == [
        ("one", "SHINE", "2", "0.75 [0.7, 0.8]", "0.8 [0.8, 0.8]", "–"),
        ("one", "HOAG", "2", "0.75 [0.7, 0.8]", "0.8 [0.8, 0.8]", "–"),
        ("one per class", "SHINE", "2", "0.55 [0.5, 0.6]", "0.6 [0.6, 0.6]", "–"),
        ("one per class", "HOAG", "2", "0.45 [0.4, 0.5]", "0.5 [0.5, 0.5]", "–"),
    ]


def compared_row(step: int, products: int, cosine: float | str, ratio: float | str) -> dict:
    row = dict(search_row(step, 1.0 + step, products, 1.0, 1.0)) | {"products": products}
    return row | {"exact_cosine": cosine, "exact_norm_ratio": ratio}


def test_fig_outer_has_relative_error_by_products_of_a_step(add_run, results: Path) -> None:
    """a = b / 2 has the relative error ½; a ⟂ b of the same length √2."""
    rows = [
        compared_row(0, 0, "", ""),
        compared_row(1, 0, "", ""),
        compared_row(2, 10, 1.0, 0.5),
        compared_row(3, 20, 0.0, 1.0),
        compared_row(4, 30, 1.0, 0.5),
    ]
    for place in (CLEANING, SOFTMAX):
        differs = {"outer.compare": True, "outer.compare_every": 5}
        add_run("nystrom", 0, rows, where=place, outer="adam", differs=differs)
    add_run("nystrom", 0, rows, where=CLEANING, outer="adam", suffix="-d")  # without exact ones
    drawing = draw(FigOuter(), results)
    figure = figure_of(drawing)
    assert len(figure.axes) == 4
    error, _, cosine, _ = figure.axes
    ((x, y),) = error.containers[0].lines[0].get_xydata().tolist()
    assert (x, y) == (10.0, pytest.approx(0.5))
    assert curves_in(cosine)["Nyström sketch"] == ([2, 3, 4], [1.0, 0.0, 1.0])
    assert drawing.table is not None
    shown = ("1", "1.000", "0.000", "0.5", "10", "1", "–")
    assert [line[2:] for line in drawing.table.lines[1:]] == [shown, shown]


def test_fig_outer_says_which_methods_a_problem_lacks(add_run, results: Path) -> None:
    rows = [compared_row(0, 0, "", ""), *(compared_row(n, 5 * n, 1.0, 0.5) for n in (1, 2))]
    differs = {"outer.compare": True}
    for method, place in (("shine", CLEANING), ("jf", CLEANING), ("shine", SOFTMAX)):
        add_run(method, 0, rows, where=place, outer="adam", differs=differs)
    cleaning, softmax, *_ = figure_of(draw(FigOuter(), results)).axes
    assert "without" not in cleaning.get_title()
    assert softmax.get_title().endswith("\nwithout Jacobian-Free")


@pytest.mark.parametrize(
    ("plot", "experiment"),
    [
        (FigCleaning(), "fig_cleaning"),
        (FigSoftmax(), "fig_softmax"),
        (FigOuter(), "fig_outer"),
    ],
)
def test_figures_of_many_variables_without_runs_say_how_to_make_them(
    add_run, results: Path, plot, experiment: str
) -> None:
    add_run("shine", 0, ends(0.5, 0.5), where=SOFTMAX, info={"n_hyperparameters": 20})
    drawing = draw(plot, results)
    assert drawing.figure is None
    (note,) = drawing.notes
    assert note.endswith(f"make them with: shine-run -m experiment={experiment}")
