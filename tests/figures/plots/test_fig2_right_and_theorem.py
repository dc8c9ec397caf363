from pathlib import Path

import numpy as np
import pytest
from traces import draw, figure_of, quality_row, theorem_row

from shine_exp.figures.names import data_name
from shine_exp.figures.plot import Plot
from shine_exp.figures.plots.fig2_right import Fig2Right
from shine_exp.figures.plots.fig_theorem import FigTheorem


def test_data_name_of_known_synthetic_and_other_data() -> None:
    assert data_name("20news") == "20newsgroups"
    assert data_name("synthetic_20news") == "synthetic stand-in for 20newsgroups"
    assert data_name("synthetic_text") == "synthetic_text"


def test_fig2_right_has_a_panel_for_each_estimate_and_marks_the_medians(
    add_run, results: Path
) -> None:
    for seed, cosine in enumerate([0.9, 0.99, 0.8]):
        rows = [
            quality_row("shine", "prescribed", cosine, 2.0),
            quality_row("shine", "random", 0.1, 0.5),
        ]
        rows += [quality_row("opa", "prescribed", 0.9999, 1.0)]
        add_run("shine", seed, rows, outer="inversion_quality", where=("logreg", "breast_cancer"))
    add_run(
        "shine",
        9,
        [quality_row("shine", "krylov", 0, 1)],
        outer="inversion_quality",
        status="running",
    )
    figure = figure_of(draw(Fig2Right(), results))
    shine, opa = figure.axes
    assert shine.get_title().startswith("SHINE\n")
    assert opa.get_title().startswith("SHINE-OPA\n")
    points, median, _, random = shine.get_lines()
    assert np.asarray(points.get_xdata()).tolist() == [0.9, 0.99, 0.8]
    assert (median.get_xdata(), median.get_ydata()) == ([0.9], [2.0])
    assert median.get_label() == "prescribed d: median cosine 0.9000, ratio 2"
    assert random.get_label() == "random d: median cosine 0.1000, ratio 0.5"
    assert len(opa.get_lines()) == 2


def test_fig_theorem_has_the_median_over_seeds_at_each_tolerance(add_run, results: Path) -> None:
    for seed, error in enumerate([0.1, 0.3, 0.2, float("nan")]):
        rows = [
            theorem_row("opa every 5", 1.0, 1.0, 0.5),
            theorem_row("opa every 5", 1e-3, error, 1.0),
        ]
        rows += [theorem_row("jf", 1.0, 0.9, 0.75)] * (seed > 0)
        add_run("shine", seed, rows, outer="theorem", status="done")
    figure = figure_of(draw(FigTheorem(), results))
    errors, angles = figure.axes
    opa, jf = errors.get_lines()
    assert (opa.get_label(), jf.get_label()) == (
        "SHINE-OPA every 5",
        "Jacobian-Free (3 of 4 seeds at fewest)",
    )
    assert dict(zip(opa.get_xdata(), opa.get_ydata(), strict=True)) == pytest.approx(
        {1.0: 1.0, 1e-3: 0.25}
    )
    band = errors.collections[0].get_paths()[0].vertices
    low, high = sorted(
        set(band[np.isclose(band[:, 0], 1e-3), 1])
    )  # a seed that is not finite counts as infinite
    assert low == pytest.approx(0.175)
    assert high > 1e100
    opa, jf = angles.get_lines()
    assert dict(zip(opa.get_xdata(), opa.get_ydata(), strict=True)) == pytest.approx(
        {1.0: 0.5, 1e-3: 1e-10}
    )
    assert np.asarray(jf.get_ydata()).tolist() == [0.25]
    left, right = errors.get_xlim()
    assert left > right


@pytest.mark.parametrize("study", [Fig2Right(), FigTheorem()], ids=lambda study: study.name)
def test_study_without_runs_says_how_to_make_them(add_run, results: Path, study: Plot) -> None:
    add_run("shine", 0, [(1, 1, 1, 1)])
    drawing = draw(study, results)
    assert drawing.figure is None
    (note,) = drawing.notes
    assert note.startswith(f"{study.name}: no finished runs with outer=")
    how = f"make them with: shine-run -m experiment={study.name.replace('-', '_')}"
    assert note.endswith(how)
