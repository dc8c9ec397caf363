"""scripts/bench/network_table.py: each network once, and on from where it was stopped."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from shine_exp.bilevel.problems.architecture.network_table import (
    Choice,
    choices,
    one_hot,
    read_rows,
    read_table,
    simplest,
)
from shine_exp.bilevel.problems.architecture.problem import architecture
from shine_exp.bilevel.problems.architecture.supernet import CONV, NONE
from shine_exp.data.sets.bundled import digits_classes

SMALL = ("problem.n_train=30", "problem.n_outer=30", "problem.width=1", "problem.penalty=0.1")


def test_networks_are_trained_once_and_the_table_goes_on(
    script: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = script("bench/network_table")
    trained: list[Choice] = []

    def train(problem: object, choice: Choice) -> tuple[float, float]:
        trained.append(choice)
        return float(len(trained)), 0.5

    monkeypatch.setattr(networks, "train", train)
    path = tmp_path / "mine.csv"
    monkeypatch.setattr(sys, "argv", ["network_table.py", str(path), *SMALL, "--seeds", "3"])
    networks.main()
    whole = path.read_text()
    assert trained == sorted({simplest(choice) for choice in choices()})
    setting = networks.made(3, list(SMALL)).setting
    rows = read_rows(path, setting)
    assert all(rows[choice] == rows[simplest(choice)] for choice in choices())
    assert read_table(path, setting).rank((NONE, NONE, NONE)) == 1

    path.write_text("".join(whole.splitlines(keepends=True)[:100]))
    networks.main()
    assert len(path.read_text().splitlines()) == len(whole.splitlines())


def test_train_solves_for_the_network_alone(script: Callable[[str], ModuleType]) -> None:
    networks = script("bench/network_table")
    problem = architecture(
        digits_classes("none"), 0, "cpu", 40, 40, width=1, penalty=0.1, price=0.5, table=False
    )
    choice = (NONE, CONV, NONE)
    loss, accuracy = networks.train(problem, choice)
    start = float(problem.cross_entropy(one_hot(choice), problem.theta0, problem.outer_rows))
    assert loss < start
    assert 0 <= accuracy <= 1
