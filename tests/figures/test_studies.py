from pathlib import Path

import numpy as np
import pytest

from shine_exp.figures.inversion import draw_inversion
from shine_exp.figures.style import data_name
from shine_exp.figures.theorem import draw_theorem
from shine_exp.runs.run import load_runs


def test_names_of_data() -> None:
    assert data_name("20news") == "20newsgroups"
    assert data_name("synthetic_20news") == "synthetic stand-in for 20newsgroups"
    assert data_name("synthetic_text") == "synthetic_text"


def inversion_row(
    estimate: str, direction: str, cosine: float, ratio: float
) -> dict[str, float | str]:
    names = {"step": 0, "time": 0.0, "estimate": estimate, "direction": direction}
    return {**names, "cosine": cosine, "norm_ratio": ratio}


def theorem_row(estimate: str, tol: float, error: float, cosine: float) -> dict[str, float | str]:
    return {
        "step": 0,
        "time": 0.0,
        "tol": tol,
        "estimate": estimate,
        "relative_error": error,
        "cosine": cosine,
    }


def test_inversion_quality_has_a_panel_for_each_estimate_and_marks_the_medians(
    add_run, results: Path
) -> None:
    for seed, cosine in enumerate([0.9, 0.99, 0.8]):
        rows = [
            inversion_row("shine", "prescribed", cosine, 2.0),
            inversion_row("shine", "random", 0.1, 0.5),
        ]
        rows += [inversion_row("opa", "prescribed", 0.9999, 1.0)]
        add_run("shine", seed, rows, outer="inversion_quality", where=("logreg", "breast_cancer"))
    add_run(
        "shine",
        9,
        [inversion_row("shine", "krylov", 0, 1)],
        outer="inversion_quality",
        status="running",
    )
    figure = draw_inversion(load_runs(results)).figure
    assert figure is not None
    shine, opa = figure.axes
    assert shine.get_title().startswith("SHINE\n")
    assert opa.get_title().startswith("SHINE-OPA\n")
    points, median, _, random = shine.get_lines()
    assert np.asarray(points.get_xdata()).tolist() == [0.9, 0.99, 0.8]
    assert (median.get_xdata(), median.get_ydata()) == ([0.9], [2.0])
    assert median.get_label() == "prescribed d: median cosine 0.9000, ratio 2"
    assert random.get_label() == "random d: median cosine 0.1000, ratio 0.5"
    assert len(opa.get_lines()) == 2


def test_theorem_has_the_median_over_seeds_at_each_tolerance(add_run, results: Path) -> None:
    for seed, error in enumerate([0.1, 0.3, 0.2, float("nan")]):
        rows = [
            theorem_row("opa every 5", 1.0, 1.0, 0.5),
            theorem_row("opa every 5", 1e-3, error, 1.0),
        ]
        rows += [theorem_row("jf", 1.0, 0.9, 0.75)] * (seed > 0)
        add_run("shine", seed, rows, outer="theorem", status="done")
    figure = draw_theorem(load_runs(results)).figure
    assert figure is not None
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


@pytest.mark.parametrize(
    ("draw", "name"), [(draw_inversion, "fig2-right"), (draw_theorem, "fig-theorem")]
)
def test_a_study_without_runs(add_run, results: Path, draw, name: str) -> None:
    add_run("shine", 0, [(1, 1, 1, 1)])
    drawing = draw(load_runs(results))
    assert drawing.figure is None
    (note,) = drawing.notes
    assert note.startswith(f"{name}: no finished runs with outer=")
    assert note.endswith(f"make them with: shine-run -m experiment={name.replace('-', '_')}")
