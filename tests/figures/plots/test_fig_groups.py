from pathlib import Path

from traces import draw, figure_of

from shine_exp.figures.plots.fig_groups import FigGroups


def points(line) -> list[tuple[float, float]]:
    return [(x, round(y, 9)) for x, y in line.get_xydata().tolist()]


def test_fig_groups_has_the_last_losses_by_number_of_groups(add_run, results: Path) -> None:
    """Seeds 0 and 1 have several groups. Not of the figure: seed 2, another memory, a file."""
    for seed, (one, ten) in enumerate([(0.5, 0.3), (0.7, 0.1)]):
        add_run("shine", seed, [(0, 0, 9, 9), (1, 1, one, 0.8)])
        add_run(
            "shine",
            seed,
            [(0, 0, 9, 9), (1, 1, ten, 0.6)],
            differs={"problem.groups": 10},
            suffix="-g",
        )
    add_run("shine", 2, [(1, 1, 0.0, 0.0)])
    add_run(
        "shine",
        0,
        [(1, 1, 0.0, 0.0)],
        differs={"problem.groups": 10, "solver.memory": 5},
        suffix="-m",
    )
    add_run("shine", 0, [(1, 1, 0.0, 0.0)], differs={"problem.groups": "mine.txt"}, suffix="-f")
    outer, held_out = figure_of(draw(FigGroups(), results)).axes
    (bars,) = outer.containers
    assert points(bars.lines[0]) == [(1, 0.6), (10, 0.2)]
    low, high = (points(cap) for cap in bars.lines[1])
    assert low == [(1, 0.5), (10, 0.1)]
    assert high == [(1, 0.7), (10, 0.3)]
    assert points(held_out.containers[0].lines[0]) == [(1, 0.8), (10, 0.6)]
    assert "2 seeds: median, lowest and highest" in outer.get_title()


def test_fig_groups_has_a_row_for_each_grouping_on_the_same_losses(add_run, results: Path) -> None:
    frequency = {"problem.grouping": "frequency"}
    for number, (one, ten) in enumerate([(0.5, 0.3), (0.5, 9.0)]):
        grouping = frequency if number else {}
        if not number:
            add_run("shine", 0, [(1, 1, one, 0.8)])
        several = {"problem.groups": 10, **grouping}
        add_run("shine", 0, [(1, 1, ten, 0.6)], differs=several, suffix=f"-{number}-g")
    figure = figure_of(draw(FigGroups(), results))
    contiguous, _, by_frequency, _ = figure.axes
    assert [points(ax.containers[0].lines[0]) for ax in (contiguous, by_frequency)] == [
        [(1, 0.5), (10, 0.3)],
        [(1, 0.5), (10, 9.0)],
    ]
    assert "\ncontiguous groups\n" in contiguous.get_title()
    assert "\ngroups by document frequency\n" in by_frequency.get_title()
    assert contiguous.get_ylim() == by_frequency.get_ylim()
    low, high = contiguous.get_ylim()
    assert low < 0.3
    assert high > 9


def test_fig_groups_tells_another_outer_loop_apart(add_run, results: Path) -> None:
    several = {"problem.groups": 10}
    add_run("shine", 0, [(1, 1, 0.5, 0.5)], differs=several, suffix="-g")
    add_run("shine", 0, [(1, 1, 0.4, 0.5)], differs={"outer": "adam", **several}, suffix="-a")
    outer, _ = figure_of(draw(FigGroups(), results)).axes
    assert [bars.get_label() for bars in outer.containers] == ["SHINE", "SHINE by Adam"]
    assert [points(bars.lines[0]) for bars in outer.containers] == [[(10, 0.5)], [(10, 0.4)]]


def test_fig_groups_without_runs_says_how_to_make_them(add_run, results: Path) -> None:
    add_run("shine", 0, [(1, 1, 0.5, 0.5)])
    add_run(
        "shine", 1, [(1, 1, 0.5, 0.5)], status="running", differs={"problem.groups": 2}, suffix="-g"
    )
    drawing = draw(FigGroups(), results)
    assert drawing.figure is None
    how = "make them with: shine-run -m experiment=fig_groups"
    assert drawing.notes == (f"fig-groups: no finished runs with several groups; {how}",)
