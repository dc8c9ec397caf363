from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from traces import curves_in, draw, figure_of, solved_row

from shine_exp.figures.catalogue import plot_classes
from shine_exp.figures.comparison import Comparison
from shine_exp.figures.drawing import Drawing
from shine_exp.figures.kinds import is_search
from shine_exp.figures.plots.curves import Curves

COMPARISONS = {each.name: each() for each in plot_classes() if issubclass(each, Comparison)}
CURVES = Curves("logreg-20news", "there", is_search)
Compare = Callable[..., Drawing]


@pytest.fixture
def compare(results: Path) -> Compare:
    return lambda name, x="time": draw(COMPARISONS[name], results, x)


def first_curves(drawing: Drawing) -> dict[str, tuple[list[float], list[float]]]:
    return curves_in(figure_of(drawing).axes[0])


def test_comparison_draws_the_loss_above_the_best_of_the_seed(add_run, compare: Compare) -> None:
    add_run("shine", 0, [(1, 4, 1, 0.9), (2, 8, 1, 0.5)])
    add_run("shine", 1, [(1, 4, 1, 0.7), (2, 8, 1, 0.3)])
    add_run("cg", 0, [(3, 9, 1, 0.8), (4, 12, 1, 0.4)])
    add_run("cg", 1, [(3, 9, 1, 0.7), (4, 12, 1, 0.6)])
    # A variant is not drawn, but its loss counts: 0.2 is the best of seed 1, 0.4 (by cg) of seed 0.
    add_run("cg", 1, [(1, 1, 1, 0.2)], differs={"solver.memory": 5}, suffix="-v")
    assert first_curves(compare("fig1")) == {
        "SHINE": ([1, 2], [0.5, 0.1]),
        "HOAG": ([3, 4], [0.45, 0.2]),
    }


@pytest.mark.parametrize(
    ("x", "costs", "scale", "label"),
    [
        ("time", [1, 2], "log", "time (s)"),
        (
            "products",
            [4, 8],
            "log",
            "gradient evaluations + Hessian products",
        ),
        ("steps", [0, 1], "linear", "outer steps"),
    ],
)
def test_comparison_x_axes(
    add_run, compare: Compare, x: str, costs: list[float], scale: str, label: str
) -> None:
    add_run("shine", 0, [(1, 4, 1, 0.9), (2, 8, 1, 0.5)])
    drawing = compare("fig1", x)
    assert drawing.figure is not None
    ax = drawing.figure.axes[0]
    assert (ax.get_xscale(), ax.get_xlabel(), ax.get_yscale()) == (scale, label, "log")
    assert drawing.name == ("fig1" if x == "time" else f"fig1-{x}")
    assert first_curves(drawing)["SHINE"][0] == costs


def test_comparison_names_missing_methods_with_the_command(add_run, compare: Compare) -> None:
    add_run("cg", 0, [(1, 4, 1, 0.9)])
    add_run("shine", 0, [(1, 4, 1, 0.9)], differs={"solver.memory": 5})
    assert compare("fig2-left").notes == (
        "fig2-left: no finished runs of method shine, opa on logreg-20news; "
        "make them with: shine-run -m experiment=fig2_left",
    )


def test_comparison_without_runs_says_how_to_make_them(add_run, compare: Compare) -> None:
    add_run("cg", 0, [(1, 4, 1, 0.9)], status="running")
    add_run("opa", 0, [(1, 4, 1, 0.9)])
    drawing = compare("fig1")
    assert drawing.figure is None
    how = "make them with: shine-run -m experiment=fig1"
    assert drawing.notes == tuple(
        f"fig1: no finished runs on logreg-{d}; {how}" for d in ("20news", "real_sim")
    )


def test_comparison_labels_a_stand_in_and_prefers_the_real_data(add_run, compare: Compare) -> None:
    methods = COMPARISONS["figNLS"].methods
    for method in methods:
        add_run(method, 0, [(1, 4, 1, 0.9)], where=("nls", "synthetic_20news"))
    drawing = compare("figNLS")
    assert drawing.figure is not None
    assert drawing.figure.axes[0].get_title() == "synthetic stand-in for 20newsgroups\none seed"
    (note,) = drawing.notes
    assert "no finished runs on nls-20news: drawn from nls-synthetic_20news in its place" in note
    for method in methods:
        add_run(method, 0, [(1, 4, 1, 0.9)], where=("nls", "20news"))
    drawing = compare("figNLS")
    assert drawing.figure is not None
    assert drawing.figure.axes[0].get_title() == "20newsgroups\none seed"
    assert drawing.notes == ()


def test_comparison_counts_diverged_runs_and_draws_them_while_finite(
    add_run, compare: Compare
) -> None:
    add_run(
        "shine", 0, [(1, 4, 1, 0.9), (2, 8, 1, 0.5), (3, 9, 1, float("nan"))], status="diverged"
    )
    add_run("shine", 1, [(1, 4, 1, 0.9), (2, 8, 1, 0.7)])
    add_run("shine", 2, [(1, 4, 1, 0.9), (2, 8, 1, 0.1)], status="interrupted")
    add_run("jf", 0, [(1, 4, 1, float("inf"))], status="diverged")
    for seed in range(4):
        add_run("cg", seed, [(1, 4, 1, 0.4)])
    # The interrupted run is not drawn, but 0.1 is the best of seed 2: cg is 0, 0, 0.3, 0 above the
    # best.
    assert first_curves(compare("fig1")) == {
        "SHINE (1 of 3 seeds; 1 diverged, 1 unfinished, 1 missing)": ([1, 2, 2.5], [0.5, 0.2, 0.2]),
        "HOAG": ([1], [0.0]),
        "Jacobian-Free (0 of 1 seed; 1 diverged, 3 missing)": ([], []),
    }


def test_comparison_median_is_infinite_where_half_of_the_seeds_diverged(
    add_run, compare: Compare
) -> None:
    nan = float("nan")
    for seed, status in enumerate(["done", "diverged", "diverged"]):
        last = 0.2 if status == "done" else nan
        add_run("shine", seed, [(1, 4, 1, 0.9), (2, 8, 1, 0.5), (3, 9, 1, last)], status=status)
        add_run("cg", seed, [(1, 4, 1, 0.1)])
    x, y = first_curves(compare("fig1"))["SHINE (1 of 3 seeds; 2 diverged)"]
    assert (x, y) == ([1, 2, 3], [0.8, 0.4, np.inf])


def test_comparison_measures_from_a_solved_best_and_names_unsolved_solves(
    add_run, compare: Compare
) -> None:
    add_run("shine", 0, [solved_row(0, 0.9, 0.05, 0, 0), solved_row(1, 0.1, 9.0, 1, 0)])
    add_run("cg", 0, [solved_row(0, 0.9, 0.1, 0, 0), solved_row(1, 0.5, 0.01, 0, 0)])
    drawing = compare("fig1")
    label = "SHINE (unsolved: 1 inner in 1 of 1 runs)"
    assert first_curves(drawing) == {label: ([1, 2], [0.4, 0.4]), "HOAG": ([1, 2], [0.4, 0])}


def test_comparison_draws_nothing_where_no_end_is_solved(add_run, compare: Compare) -> None:
    add_run("shine", 0, [solved_row(0, 0.9, 0.5, 1, 0), solved_row(1, 0.1, float("nan"), 2, 0)])
    assert first_curves(compare("fig1")) == {"SHINE (unsolved: 2 inner in 1 of 1 runs)": ([], [])}


def test_curves_have_every_variant_and_unfinished_runs(add_run, results: Path) -> None:
    add_run("shine", 0, [(1, 4, 1, 0.9), (2, 8, 1, 0.5)])
    add_run("shine", 1, [(1, 4, 1, 0.9), (2, 8, 1, 0.5)])
    add_run(
        "shine", 0, [(1, 4, 1, 0.6)], differs={"solver.memory": 5}, suffix="-v", status="running"
    )
    add_run("mine", 0, [(1, 4, 1, 0.8)])
    add_run("shine", 0, [(1, 4, 1, 0.1)], where=("logreg", "digits"))
    assert first_curves(draw(CURVES, results)) == {
        "mine (1 seed)": ([1], [0.3]),
        "SHINE": ([1, 2], [0.4, 0.0]),
        "SHINE (5 secant pairs) (0 of 1 seed; 1 unfinished)": ([1], [0.1]),
    }


def test_curves_of_changed_data_have_their_own_best(add_run, results: Path) -> None:
    add_run("shine", 0, [(1, 4, 1, 0.9)])
    add_run("shine", 0, [(1, 4, 1, 0.3), (2, 4, 1, 0.2)], differs={"data.subset": 9}, suffix="-v")
    first, _, second, _ = figure_of(draw(CURVES, results)).axes
    assert curves_in(first) == {"SHINE": ([1], [0])}
    assert curves_in(second) == {"SHINE": ([1, 2], [0.1, 0])}
    assert "9 training images" in second.get_title().replace("\n", " ")


def test_comparison_gives_a_method_one_look_in_each_figure(add_run, compare: Compare) -> None:
    for method in ("shine", "cg", "opa", "grid", "random"):
        add_run(method, 0, [(1, 4, 1, 0.9), (2, 8, 1, 0.5)])
    looks: dict[str, set[tuple[str, ...]]] = {}
    for name in ("fig1", "fig2-left", "figE1"):
        drawing = compare(name)
        assert drawing.figure is not None
        for line in drawing.figure.axes[0].get_lines():
            look = str(line.get_color()), str(line.get_marker()), str(line.get_linestyle())
            looks.setdefault(str(line.get_label()), set()).add(look)
    assert len(looks["SHINE"]) == len(looks["HOAG"]) == 1
    assert len(set.union(*looks.values())) == len(looks) == 5


def test_comparison_measures_the_outer_loss_from_the_best_end(add_run, compare: Compare) -> None:
    add_run("shine", 0, [(1, 1, 0.9, 0.5), (2, 2, 0.1, 0.5), (3, 3, 0.3, 0.5)])
    add_run("cg", 0, [(1, 1, 0.9, 0.5), (3, 3, 0.4, 0.5)])
    drawing = compare("fig1")
    assert drawing.figure is not None
    ax = drawing.figure.axes[1]
    (shine,) = (line for line in ax.get_lines() if line.get_label() == "SHINE")
    assert np.round(shine.get_ydata(), 9).tolist() == [0.6, 0.2, 0]
    assert ax.get_ylabel() == "|outer loss − best end|"


@pytest.mark.parametrize(("name", "quantiles"), [("fig1", (0.1, 0.9)), ("fig2-left", (0.25, 0.75))])
def test_comparison_bands(
    add_run, compare: Compare, name: str, quantiles: tuple[float, float]
) -> None:
    for seed in range(11):
        add_run("shine", seed, [(1, 4, 1, 0.1 * seed + 0.1), (2, 8, 1, 0.1 * seed + 0.1)])
        add_run("cg", seed, [(1, 4, 1, 0.1)])
    drawing = compare(name)
    assert drawing.figure is not None
    ax = drawing.figure.axes[0]
    shine = [line.get_label() for line in ax.get_lines()].index("SHINE")
    y = ax.collections[shine].get_paths()[0].vertices[:, 1]
    assert (y.min(), y.max()) == pytest.approx(quantiles)
    low, high = (f"{100 * quantile:.0f}" for quantile in quantiles)
    assert f"11 seeds: median, {low} – {high} %" in ax.get_title().splitlines()


def test_comparison_says_which_methods_it_lacks(add_run, compare: Compare) -> None:
    add_run("cg", 0, [(1, 4, 1, 0.1)])
    add_run("shine", 0, [(1, 4, 1, 0.1)])
    ax = figure_of(compare("fig1")).axes[0]
    assert "without SHINE refine; Jacobian-Free; Grid search" in ax.get_title().replace("\n", " ")
    assert list(curves_in(ax)) == ["SHINE", "HOAG"]  # the order of all figures
