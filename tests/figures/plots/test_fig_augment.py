from collections.abc import Mapping
from pathlib import Path

from traces import curves_in, draw, figure_of, row_of_costs

from shine_exp.figures.plots.fig_augment import PANELS, FigAugment
from shine_exp.loop import Row

WHERE = ("augment", "turned_digits")
PLANTED = {"rotation": 45.0, "shift_x": 1.0, "shift_y": 1.0, "log_scale": 0.0, "shear": 0.0}


def rows(*rotations: float) -> list[Row]:
    still = dict.fromkeys(PANELS, 0.5)
    return [
        row_of_costs(step, step, 1, 1) | still | {"rotation": rotation}
        for step, rotation in enumerate(rotations)
    ]


def add(add_run, method: str, seed: int, trace: list[Row], **more) -> None:
    config: Mapping = {"data": {"ranges": {"_target_": "Ranges", **PLANTED}}}
    add_run(method, seed, trace, where=WHERE, outer="adam", config=config, **more)


def test_fig_augment_has_the_ranges_by_step_and_the_planted_ones(add_run, results: Path) -> None:
    for seed, end in enumerate((40, 44, 52)):
        add(add_run, "cg", seed, rows(3, 20, end))
    add(add_run, "shine", 0, rows(3, 10, 60))
    add_run("shine", 0, [(1, 1, 0.5, 0.5)])
    drawing = draw(FigAugment(), results)
    figure = figure_of(drawing)
    assert drawing.table is not None
    assert [line[1:5] for line in drawing.table.lines[1:]] == [
        ("SHINE", "1", "60", "0.5"),
        ("HOAG", "3", "44 [40, 52]", "0.5 [0.5, 0.5]"),
        ("planted", "–", "45", "1"),
    ]
    assert [ax.get_ylabel() for ax in figure.axes] == list(PANELS.values())
    rotation, *_, accuracy = figure.axes
    curves = curves_in(rotation)
    assert curves["HOAG"] == ([0, 1, 2], [3, 20, 44])
    assert curves["SHINE"] == ([0, 1, 2], [3, 10, 60])
    assert curves["planted"][1] == [45, 45]
    assert "planted" not in curves_in(accuracy)
    assert "3 seeds: median, lowest and highest" in rotation.get_title()


def test_fig_augment_has_its_own_panels_for_each_setting(add_run, results: Path) -> None:
    add(add_run, "cg", 0, rows(3, 20))
    add(add_run, "cg", 0, rows(3, 30), differs={"problem/model": "mlp"}, suffix="-m")
    figure = figure_of(draw(FigAugment(), results))
    assert len(figure.axes) == 2 * len(PANELS)
    assert "a layer of tanh units" in figure.axes[len(PANELS)].get_title().replace("\n", " ")


def test_fig_augment_without_runs_says_how_to_make_them(add_run, results: Path) -> None:
    add(add_run, "cg", 0, rows(3, 20), status="running")
    drawing = draw(FigAugment(), results)
    how = "make them with: shine-run -m experiment=fig_augment"
    assert drawing.notes == (f"fig-augment: no finished runs with problem=augment; {how}",)
