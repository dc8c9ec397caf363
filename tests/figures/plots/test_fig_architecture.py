from pathlib import Path

from traces import curves_in, draw, figure_of, row_of_costs

from shine_exp.figures.plots.fig_architecture import FigArchitecture
from shine_exp.loop import Row

WHERE = ("architecture", "digits_classes")
BASELINES = {"rank_conv3x3": 9, "rank_random": 63.0, "regret_conv3x3": 0.1, "regret_random": 0.8}


def rows(*ranks: int) -> list[Row]:
    return [
        row_of_costs(step, step, 1, 1) | {"rank": rank, "regret": rank / 100}
        for step, rank in enumerate(ranks)
    ]


def add(add_run, method: str, seed: int, trace: list[Row], **more) -> None:
    add_run(method, seed, trace, where=WHERE, outer="adam", info=BASELINES, **more)


def test_fig_architecture_has_rank_and_regret_and_two_baselines(add_run, results: Path) -> None:
    for seed, end in enumerate((2, 4, 20)):
        add(add_run, "shine", seed, rows(117, 10, end))
    add(add_run, "first_order", 0, rows(117, 50, 40))
    drawing = draw(FigArchitecture(), results)
    rank, regret = figure_of(drawing).axes
    curves = curves_in(rank)
    assert curves["SHINE"] == ([0, 1, 2], [117, 10, 4])
    assert curves["First order"] == ([0, 1, 2], [117, 50, 40])
    assert curves["3 × 3 on each edge"][1] == [9, 9]
    assert curves_in(regret)["at random"][1] == [0.8, 0.8]
    assert drawing.table is not None
    assert [line[1:8] for line in drawing.table.lines[1:]] == [
        ("SHINE", "3", "2 4 20", "8.67", "2 of 3", "0.02 0.04 0.2", "0.04"),
        ("First order", "1", "40", "40", "0 of 1", "0.4", "0.4"),
        ("3 × 3 on each edge", "3", "9 9 9", "9", "3 of 3", "0.1 0.1 0.1", "0.1"),
        ("at random", "3", "63 63 63", "63", "0 of 3", "0.8 0.8 0.8", "0.8"),
    ]


def test_fig_architecture_takes_runs_with_a_table_alone(add_run, results: Path) -> None:
    unranked = [row_of_costs(0, 0, 1, 1) | {"outer_loss": 1.0}]
    add_run("shine", 0, unranked, where=WHERE, outer="adam")
    drawing = draw(FigArchitecture(), results)
    how = "make them with: shine-run -m experiment=fig_architecture"
    missing = "fig-architecture: no finished runs with problem=architecture and a table"
    assert drawing.notes == (f"{missing}; {how}",)
