import csv
from pathlib import Path

import pytest

from shine_exp.figures.drawing import Table
from shine_exp.figures.read import read_runs
from shine_exp.figures.table import draw_table, make_entries
from shine_exp.trace import Run


def drawn(runs: list[Run]) -> Table:
    table = draw_table(runs).table
    assert table is not None
    return table


@pytest.fixture
def runs(add_run, results: Path) -> list[Run]:
    """Best ends: 1.0 for seed 0 (by cg), 2.0 for seed 1 (by shine), none for seed 2; 0.9 was passed, not kept."""
    add_run("shine", 0, [(1, 10, 5, 7), (2, 20, 0.9, 6), (3, 30, 1.01, 5), (4, 40, 1.005, 4.5)])
    add_run(
        "shine", 1, [(1, 10, 5, 7), (3, 40, 2.03, 6.6), (4, 50, 2.01, 6.5), (8, 80, 2.003, 6.3), (9, 90, 2.0, 6.25)]
    )
    add_run("shine", 2, [(1, 10, 3, 4), (2, 20, float("nan"), float("nan"))], status="diverged")
    add_run("cg", 0, [(5, 100, 4, 7), (10, 200, 1.0, 5.5)])
    add_run("cg", 1, [(5, 100, 4, 7), (10, 200, 2.5, 5.5)])
    add_run("cg", 3, [(5, 100, 4, 7)], status="running")
    add_run("jf", 0, [(1, 1, 8, 9)], where=("nls", "20news"))
    return read_runs(results)


def test_arrival_to_stay_within_each_share_by_hand(runs: list[Run]) -> None:
    arrivals = {(e.where, e.label, e.share): e.arrivals.to_numpy().tolist() for e in make_entries(runs)}
    assert arrivals == {
        ("logreg-20news", "cg", 0.01): [[10, 200, 5.5]],
        ("logreg-20news", "cg", 0.001): [[10, 200, 5.5]],
        ("logreg-20news", "shine", 0.01): [[3, 30, 5], [4, 50, 6.5]],
        ("logreg-20news", "shine", 0.001): [[9, 90, 6.25]],
        ("nls-20news", "jf", 0.01): [[1, 1, 9]],
        ("nls-20news", "jf", 0.001): [[1, 1, 9]],
    }


def test_text_has_median_range_and_counts(runs: list[Run]) -> None:
    cells = [line.split("  ") for line in drawn(runs).aligned().splitlines()]
    rows = [[cell.strip() for cell in line if cell.strip()] for line in cells]
    header = "problem-data", "method", "within", "reached", "time (s)", "products", "held-out loss"
    assert rows[0] == [*header, "diverged", "unfinished", "missing"]
    # Of the four seeds 0 to 3, cg has no run of seed 2, and seed 3 is still running.
    cg = ["10 [10, 10]", "200 [200, 200]", "5.5 [5.5, 5.5]", "0", "1", "1"]
    assert rows[1] == ["logreg-20news", "cg", "1 %", "1 of 4", *cg]
    shine = ["3.5 [3, 4]", "40 [30, 50]", "5.75 [5, 6.5]", "1", "0", "1"]
    assert rows[3] == ["logreg-20news", "shine", "1 %", "2 of 4", *shine]


def test_markdown_says_the_same(runs: list[Run]) -> None:
    lines = drawn(runs).markdown().splitlines()
    assert lines[1] == "|" + " --- |" * 10
    assert lines[4].startswith("| logreg-20news | shine | 1 % | 2 of 4 | 3.5 [3, 4] | 40 [30, 50] |")
    assert len(lines) == 2 + 6 + 2


def test_seeds_are_missing_only_of_the_same_setting(add_run, results: Path) -> None:
    for seed in range(3):
        add_run("cg", seed, [(1, 1, 1.0, 1.0)])
    add_run("cg", 0, [(1, 1, 1.0, 1.0)], differs={"problem.groups": 2}, suffix="-g")
    add_run("cg", 0, [(1, 1, 1.0, 1.0)], differs={"solver.memory": 2}, suffix="-m")
    counts = {entry.label: entry.counts for entry in make_entries(read_runs(results))}
    assert (counts["cg (problem.groups=2)"].total, counts["cg (problem.groups=2)"].missing) == (1, 0)
    assert (counts["cg (solver.memory=2)"].total, counts["cg (solver.memory=2)"].missing) == (3, 2)


def test_nobody_arrived(add_run, results: Path) -> None:
    add_run("cg", 0, [(1, 1, 1.0, 1.0)])
    add_run("jf", 0, [(1, 1, 1.5, 1.0)])
    table = drawn(read_runs(results))
    assert "jf      1 %     0 of 1   –" in table.aligned()
    table.save(results, "table")
    row = list(csv.DictReader((results / "table.csv").read_text().splitlines()))[2]
    assert (row["method"], row["reached"], row["time_median"]) == ("jf", "0", "")


def test_csv_has_a_number_in_each_cell(runs: list[Run], results: Path) -> None:
    drawn(runs).save(results, "table")
    rows = list(csv.DictReader((results / "table.csv").read_text().splitlines()))
    assert len(rows) == 6
    row = rows[2]
    assert (row["problem_data"], row["method"]) == ("logreg-20news", "shine")
    numbers = {key: float(value) for key, value in row.items() if key not in ("problem_data", "method")}
    expected = {"within": 0.01, "reached": 2, "seeds": 4, "diverged": 1, "unfinished": 0, "missing": 1}
    expected |= {"time_median": 3.5, "time_min": 3, "time_max": 4}
    expected |= {"products_median": 40, "products_min": 30, "products_max": 50}
    expected |= {"held_out_median": 5.75, "held_out_min": 5, "held_out_max": 6.5}
    assert numbers == expected
