import math
from pathlib import Path

import numpy as np
from traces import draw, figure_of, quality_row

from shine_exp.figures.kinds import is_search
from shine_exp.figures.plots.fig_e2 import FigE2
from shine_exp.runs.run import load_runs

STUDY = {"where": ("mdeq", "digits_images"), "outer": "network_inversion"}


def test_fig_e2_has_a_panel_for_each_direction_with_medians_of_all_seeds(
    add_run, results: Path
) -> None:
    for seed, cosine in enumerate([0.9, 0.99, 0.8]):
        rows = [
            quality_row("jf", "prescribed", 0.5, 0.7),
            quality_row("opa", "prescribed", cosine, 2.0),
        ]
        rows += [
            quality_row("shine", "random", -0.2, 0.5),
            quality_row("shine", "random", math.nan, math.nan),
        ]
        rows += [quality_row("adjoint_broyden", "random", 0.1, 1)]
        differs = {"outer": "network_inversion", "outer.train.epochs": 4}
        add_run("full", seed, rows, differs=differs, **STUDY)
    add_run("full", 7, [quality_row("jf", "random", 0, 1)], status="running", **STUDY)
    assert not any(map(is_search, load_runs(results)))
    figure = figure_of(draw(FigE2(), results))
    prescribed, random = figure.axes
    title = "MDEQ, digits, 4 epochs"
    assert prescribed.get_title() == f"prescribed d, ∇L(z*); trained by Full inverse\n{title}"
    assert random.get_title() == f"random d; trained by Full inverse\n{title}"
    _, jf, cloud, opa = prescribed.get_lines()
    assert jf.get_label() == "Jacobian-Free: median cosine 0.5000, ratio 0.7"
    assert np.asarray(cloud.get_xdata()).tolist() == [0.9, 0.99, 0.8]
    assert (opa.get_xdata(), opa.get_ydata()) == ([0.9], [2.0])
    assert opa.get_label() == "SHINE-OPA, adjoint Broyden: median cosine 0.9000, ratio 2"
    labels = [line.get_label() for line in random.get_lines()[1::2]]
    assert labels == [
        "SHINE, Broyden (3 of 6 without b): median cosine -0.2000, ratio 0.5",
        "SHINE, adjoint Broyden: median cosine 0.1000, ratio 1",
    ]
    assert prescribed.get_xlim() == random.get_xlim()
    assert random.get_xlim()[0] < -0.2
    assert random.get_yscale() == "log"


def test_fig_e2_has_a_row_for_each_trained_network(add_run, results: Path) -> None:
    for method in ("full", "jf"):
        add_run(
            method,
            0,
            [quality_row("jf", "random", 0.5, 1.0), quality_row("jf", "prescribed", 0.5, 1.0)],
            **STUDY,
        )
    figure = figure_of(draw(FigE2(), results))
    trained = [ax.get_title().splitlines()[0].split("; ")[1] for ax in figure.axes]
    assert trained == ["trained by Full inverse"] * 2 + ["trained by Jacobian-Free"] * 2


def test_fig_e2_without_runs_says_how_to_make_them(add_run, results: Path) -> None:
    add_run("full", 0, [quality_row("jf", "random", 0.5, 1.0)], status="interrupted", **STUDY)
    drawing = draw(FigE2(), results)
    assert drawing.figure is None
    (note,) = drawing.notes
    how = "make them with: shine-run -m experiment=figE2"
    assert note == f"figE2: no finished runs with outer=network_inversion; {how}"
