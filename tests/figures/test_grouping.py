from pathlib import Path

from traces import theorem_row

from shine_exp.figures.best import best_end, best_passed
from shine_exp.figures.grouping import (
    by_label,
    by_setting,
    count,
    setting,
    unfinished_lines,
)
from shine_exp.figures.kinds import is_search
from shine_exp.runs.run import load_runs

ROWS = [(1, 10, 0.5, 0.6), (2, 20, 0.3, 0.4)]


def test_by_label_sorts_by_the_numbers_in_labels(add_run, results: Path) -> None:
    for memory in (10, 5, 30):
        add_run("shine", 0, ROWS, differs={"solver.memory": memory}, suffix=f"-{memory}")
    add_run("shine", 1, ROWS)
    assert list(by_label(load_runs(results))) == [
        "shine",
        *(f"shine (solver.memory={m})" for m in (5, 10, 30)),
    ]


def test_best_loss_is_that_of_a_seed_over_all_methods_and_statuses(add_run, results: Path) -> None:
    add_run("shine", 0, [(1, 1, 0.5, 0.6), (2, 2, 0.3, 0.45)])
    add_run("cg", 0, [(1, 1, 0.5, 0.6), (2, 2, 0.2, 0.5)], status="interrupted")
    add_run("jf", 0, [(1, 1, 0.4, 0.4), (2, 2, float("nan"), float("-inf"))], status="diverged")
    add_run("shine", 1, [(1, 1, 0.9, 0.8)])
    add_run("shine", 0, [(1, 1, 0.01, 0.01)], where=("logreg", "real_sim"))
    add_run("shine", 0, [(1, 1, 0.02, 0.02)], differs={"data.subset": 100}, suffix="-s")
    runs = load_runs(results)
    outer, held_out = best_passed(runs, "outer_loss"), best_passed(runs, "test_loss")
    here = ("logreg-20news",)
    assert (outer[here, 0], outer[here, 1]) == (0.2, 0.9)
    assert (held_out[here, 0], held_out[here, 1]) == (0.4, 0.8)
    assert outer[("logreg-20news", "data.subset=100"), 0] == 0.02
    ends = best_end(runs, "test_loss")
    assert (ends[here, 0], ends[here, 1]) == (0.45, 0.8)


def test_setting_changes_with_problem_or_data_alone(add_run, results: Path) -> None:
    add_run("shine", 0, ROWS, differs={"solver.memory": 5, "problem.groups": 3})
    assert setting(load_runs(results)[0]) == ("logreg-20news", "problem.groups=3")


def test_count_of_done_diverged_unfinished_and_missing(add_run, results: Path) -> None:
    for seed, status in enumerate(["done", "done", "diverged", "running", "interrupted"]):
        add_run("cg", seed, ROWS, status=status)
    runs = load_runs(results)
    assert str(count(runs, range(7))) == "2 of 5 seeds; 1 diverged, 2 unfinished, 2 missing"
    assert str(count(runs[:1], range(10))) == "1 seed; 9 missing"
    assert str(count(runs[:2], range(2))) == "2 seeds"
    assert str(count(runs[:1], range(1))) == "1 seed"
    (line,) = unfinished_lines(runs)
    assert line.endswith("logreg-20news, cg: seed 3 running, seed 4 interrupted")


def test_by_setting_groups_a_study_and_titles_it_by_what_varies(add_run, results: Path) -> None:
    row = theorem_row("jf", 1.0, 1.0, 0.0)
    where = ("logreg", "breast_cancer")
    for seed, memory in [(0, 5), (0, 60), (1, 60)]:
        differs = {"solver.memory": memory, "solver.tol": 1e-6}
        add_run(
            "shine", seed, [row], where=where, outer="theorem", differs=differs, suffix=f"-{memory}"
        )
    add_run("opa", 1, [row], where=where, outer="theorem", differs=differs, suffix="-opa")
    runs = load_runs(results)
    assert not any(map(is_search, runs))
    title = "logistic regression, breast cancer"
    assert {name: len(members) for name, members in by_setting(runs).items()} == {
        f"{title}, 5 secant pairs": 1,
        f"{title}, 60 secant pairs": 3,
    }
