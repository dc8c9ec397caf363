from pathlib import Path
from typing import Any

import numpy as np
import pytest
from traces import EPOCH, draw, figure_of

from shine_exp.errors import UserError
from shine_exp.figures.plots.fig3 import PUBLISHED, Fig3, read_published

PAPER = Path(__file__).parents[3] / "results" / "paper" / "fig3.csv"


def epochs(accuracy: float, ms: float) -> list[dict[str, float]]:
    return [{"backward_ms": 999.0}] * 2 + [{"backward_ms": ms, "accuracy": accuracy}]


def points(ax: Any) -> dict[str, list[list[float]]]:
    lines = {bars.get_label(): bars.lines[0].get_xydata() for bars in ax.containers}
    return {label: np.round(line, 9).tolist() for label, line in lines.items()}


def heights(ax: Any, series: str) -> list[float]:
    (bars,) = (bars for bars in ax.containers if bars.get_label() == series)
    (lines,) = bars.lines[2]
    return [
        float(np.ptp(np.asarray(segment)[:, 1])) for segment in lines.get_segments() if len(segment)
    ]


def test_fig3_points_by_series_and_steps(add_network, results: Path) -> None:
    for seed, (accuracy, ms) in enumerate([(0.9, 10), (0.92, 12), (0.94, 20)]):
        add_network("shine", seed, epochs(accuracy, ms))
    add_network("refine", 0, epochs(0.95, 40), steps=5)
    add_network("refine", 0, epochs(0.96, 45), steps=2)
    add_network("jf", 0, epochs(0.8, 8))
    add_network("refine_jf", 0, epochs(0.85, 30), steps=1)
    add_network("full_limited", 0, epochs(0.91, 35), steps=7)
    add_network("full", 0, epochs(0.93, 80))
    drawing = draw(Fig3(), results)
    (ax,) = figure_of(drawing).axes
    assert points(ax) == {
        "Original": [[35, 91], [80, 93]],
        "Jacobian-Free": [[8, 80], [30, 85]],
        "SHINE": [[12, 92], [45, 96], [40, 95]],
    }
    numbers = {text.get_text(): text.xy for text in ax.texts if hasattr(text, "xy")}
    assert numbers["7"] == pytest.approx((35, 91))
    assert numbers["full"] == pytest.approx((80, 93))
    assert [text.get_text() for text in ax.texts if hasattr(text, "xy")].count("0") == 2
    assert heights(ax, "SHINE")[0] == pytest.approx(
        2 * 2
    )  # 90, 92, 94: a standard deviation of 2 each way
    assert {text.get_text() for text in ax.texts} >= {"vanilla", "refined"}
    assert ax.get_title() == "MDEQ, digits\n1 – 3 seeds: mean ± standard deviation"
    assert ax.get_xscale() == "log"
    assert drawing.notes == ()


@pytest.mark.parametrize(
    ("method", "inverse", "key"),
    [
        ("refine", {"steps": {"max_steps": 2}}, "method.inverse.steps.max_steps"),
        ("full_limited", {"max_steps": 2}, "method.inverse.max_steps"),
    ],
)
def test_fig3_reads_the_steps_of_an_earlier_configuration(
    add_run, results: Path, method: str, inverse: dict[str, Any], key: str
) -> None:
    config = {"outer": {"pretrain_steps": 15}, "method": {"inverse": inverse}}
    rows = [EPOCH | {"step": 10 * n, "time": n} | row for n, row in enumerate(epochs(0.9, 12), 1)]
    where = ("mdeq", "digits_images")
    add_run(method, 0, rows, where=where, outer="train", config=config, differs={key: 2})
    (ax,) = figure_of(draw(Fig3(), results)).axes
    assert "2" in {text.get_text() for text in ax.texts}


def test_fig3_shades_no_regions_that_overlap(add_network, results: Path) -> None:
    add_network("shine", 0, epochs(0.9, 50))
    add_network("refine_jf", 0, epochs(0.9, 30))
    (ax,) = figure_of(draw(Fig3(), results)).axes
    assert not {text.get_text() for text in ax.texts} & {"vanilla", "refined"}


def test_fig3_has_a_panel_for_each_network_and_notes_what_is_lacking(
    add_network, results: Path
) -> None:
    for method in ("jf", "shine", "full", "refine", "refine_jf", "full_limited"):
        add_network(method, 0, epochs(0.9, 10))
    add_network("jf", 0, epochs(0.7, 10), where=("mdeq", "cifar10"))
    add_network("shine", 0, epochs(0.7, 10), where=("mdeq", "cifar10"), differs={"outer.epochs": 9})
    # Not of the figure: another method, and a variant in more than the number of steps.
    add_network("fallback", 0, epochs(0.7, 10))
    add_network("refine", 1, epochs(0.7, 10), differs={"method.steps.factor": 2})
    drawing = draw(Fig3(), results)
    cifar, longer, digits = (ax.get_title() for ax in figure_of(drawing).axes)
    assert cifar.startswith("MDEQ, CIFAR-10\none seed\nwithout SHINE; SHINE refine; Full inverse;")
    assert longer.startswith("MDEQ, CIFAR-10, 9 epochs\none seed\nwithout SHINE refine;")
    assert digits == "MDEQ, digits\none seed"
    first, second = drawing.notes
    how = "make them with: shine-run -m experiment=fig3"
    lacking = "full_limited, full, refine_jf, shine, refine"
    assert first == f"fig3: no runs that are done of method {lacking} on MDEQ, CIFAR-10; {how}"
    assert (
        "of method full_limited, full, jf, refine_jf, refine on MDEQ, CIFAR-10, 9 epochs" in second
    )


def test_fig3_counts_diverged_runs_and_draws_no_unfinished_ones(add_network, results: Path) -> None:
    add_network("shine", 0, epochs(0.9, 10))
    add_network("shine", 1, epochs(0.1, 10), status="diverged")
    add_network("refine", 1, epochs(0.1, 10), status="diverged")
    add_network("jf", 0, epochs(0.1, 10), status="running")
    (ax,) = figure_of(draw(Fig3(), results)).axes
    assert points(ax) == {"SHINE (2 diverged)": [[10, 90]]}


def test_fig3_notes_a_run_within_pre_training(add_network, results: Path) -> None:
    add_network("jf", 0, [{}, {}])
    drawing = draw(Fig3(), results)
    assert drawing.figure is None
    assert (
        "fig3: jf on MDEQ, digits has no epoch after pre-training; take more outer.epochs"
        in drawing.notes
    )


def test_fig3_names_machines_and_notes_where_they_are_mixed(add_network, results: Path) -> None:
    add_network("jf", 0, epochs(0.9, 10), info={"device": "cpu", "threads": 2})
    drawing = draw(Fig3(), results)
    assert (
        figure_of(drawing).axes[0].get_xlabel()
        == "backward pass of a batch (ms, median; cpu, 2 threads)"
    )
    assert not any("compare" in note for note in drawing.notes)
    add_network("jf", 1, epochs(0.9, 10), info={"device": "cuda", "threads": 2})
    assert (
        "fig3: MDEQ, digits has times of different machines, which do not compare"
        in draw(Fig3(), results).notes
    )


def test_fig3_without_runs_says_how_to_make_them(add_network, add_run, results: Path) -> None:
    add_run("shine", 0, [(1, 1, 1, 1)])
    add_network("shine", 0, epochs(0.9, 1), status="interrupted")
    drawing = draw(Fig3(), results, published=PAPER)
    assert drawing.figure is None
    assert drawing.notes == (
        "fig3: no finished runs with outer=train; make them with: shine-run -m experiment=fig3",
    )


def test_fig3_has_the_published_numbers_beside_ours(add_network, results: Path) -> None:
    add_network("jf", 0, epochs(0.9, 10))
    drawing = draw(Fig3(), results, published=PAPER)
    ours, published, imagenet = figure_of(drawing).axes
    assert points(ours) == {"Jacobian-Free": [[10, 90]]}
    assert published.get_title() == "published: MDEQ large, CIFAR-10"
    drawn = points(published)
    assert {label: len(line) for label, line in drawn.items()} == {
        "Original": 6,
        "Jacobian-Free": 6,
        "SHINE": 6,
    }
    assert drawn["SHINE"][0] == [16.0, 93.14]
    assert drawn["Original"][-1] == [209, 93.51]
    assert heights(published, "Jacobian-Free")[0] == pytest.approx(0.22)
    assert imagenet.get_title() == "published: MDEQ small, ImageNet"
    assert points(imagenet)["SHINE"] == [[35.3, 70.37], [187, 74.21]]
    assert heights(imagenet, "SHINE") == []  # of one seed
    assert drawing.table is not None
    row = ("published: MDEQ small, ImageNet", "Jacobian-Free", "0", "–", "72.59", "13.5", "59")
    assert row in drawing.table.lines


@pytest.mark.parametrize(
    "text",
    [
        "series,steps\nJF,1\n",
        ",".join(PUBLISHED) + "\nMDEQ,mine,1,1,1,1\n",
        ",".join(PUBLISHED) + "\nMDEQ,JF,1,x,1,1\n",
        "",
    ],
)
def test_fig3_refuses_published_numbers_that_are_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "fig3.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=r"fig3.csv") as error:
        read_published(path)
    assert "\n" not in str(error.value)
