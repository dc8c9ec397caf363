"""The exhaustive table: each of the 125 networks of a supernet, trained by itself.

With it a search can be judged exactly, by the rank and the regret of the network that it chose
(Dong & Yang 2020, who made such a table of 15 625 networks).
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TextIO

import torch
from torch import Tensor

from shine_exp.bilevel.problems.architecture.supernet import EDGES, IDENTITY, NONE, OPERATIONS, POOL
from shine_exp.errors import UserError, one_line

# Of digits_classes, with the default settings and seeds 0 to 4.
OURS = Path(__file__).with_name("network_table.csv")
COLUMNS = ("setting", *EDGES, "outer_loss", "accuracy")

Choice = tuple[int, int, int]  # the operation of each edge


def choices() -> Iterator[Choice]:
    """The 125 networks."""
    operations = range(len(OPERATIONS))
    return product(operations, operations, operations)


def one_hot(choice: Sequence[int]) -> Tensor:
    """A network as a mixture (3, 5), float64, with a single 1 in each row."""
    return torch.eye(len(OPERATIONS), dtype=torch.float64)[list(choice)]


def simplest(choice: Choice) -> Choice:
    """The first of the networks that compute the same as this one.

    Where no edge leaves node 2, or nothing comes to it, some operations make no difference.
    """
    first, second, third = choice
    if third == NONE:
        first = NONE
    if first == NONE and third in (IDENTITY, POOL):
        third = NONE
    return first, second, third


@dataclass(frozen=True)
class NetworkTable:
    """The outer loss of each of the 125 networks, at its own θ*."""

    outer_losses: dict[Choice, float]

    def rank(self, choice: Choice) -> int:
        """1 + the number of networks with a strictly lower outer loss; of equals, all the same."""
        own = self.outer_losses[choice]
        return 1 + sum(loss < own for loss in self.outer_losses.values())

    def regret(self, choice: Choice) -> float:
        """How far the outer loss of a network lies above the lowest of all."""
        return self.outer_losses[choice] - min(self.outer_losses.values())


def read_table(path: Path, setting: str) -> NetworkTable:
    """The rows of a file that belong to a setting.

    Raises `UserError` where the file cannot be read, or has not all networks of this setting.
    """
    try:
        rows = read_rows(path, setting)
    except (OSError, UnicodeDecodeError, KeyError, ValueError, TypeError) as error:
        raise UserError(
            f"problem.table={path}: is no table of networks ({one_line(error, 80)}); "
            f"its columns are {', '.join(COLUMNS)}"
        ) from error
    if missing := sum(choice not in rows for choice in choices()):
        raise UserError(
            f"problem.table={path}: lacks {missing} of the networks of this seed, data and setting "
            f"({setting}): make them by scripts/bench/network_table.py, or take problem.table=false"
        )
    return NetworkTable({choice: loss for choice, (loss, _) in rows.items()})


def read_rows(path: Path, setting: str) -> dict[Choice, tuple[float, float]]:
    """Outer loss and held-out accuracy of those networks of a setting that a file has."""
    with path.open(encoding="utf-8", newline="") as file:
        return {
            _choice(row): (float(row["outer_loss"]), float(row["accuracy"]))
            for row in csv.DictReader(file)
            if row["setting"] == setting
        }


def write_row(file: TextIO, setting: str, choice: Choice, loss: float, accuracy: float) -> None:
    """One network, with its loss to four decimals, so that networks that are equal are so here."""
    names = [OPERATIONS[operation] for operation in choice]
    csv.writer(file, lineterminator="\n").writerow(
        [setting, *names, f"{loss:.4f}", f"{accuracy:.4f}"]
    )


def _choice(row: dict[str, str]) -> Choice:
    first, second, third = (OPERATIONS.index(row[edge]) for edge in EDGES)
    return first, second, third
