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

from shine_exp.bilevel.problems.supernet import EDGES, OPERATIONS
from shine_exp.errors import UserError, one_line

# Of digits_classes, with the default settings and seeds 0 to 4.
OURS = Path(__file__).with_name("network_table.csv")
COLUMNS = ("setting", *EDGES, "outer_loss", "accuracy")
# The setting of a table that holds no row of it is likely another seed.
MAKE = "make its rows by scripts/bench/networks.py, or take problem.table=false"

Choice = tuple[int, int, int]  # the operation of each edge


def choices() -> Iterator[Choice]:
    """The 125 networks."""
    return product(range(len(OPERATIONS)), repeat=len(EDGES))  # type: ignore[return-value]


def one_hot(choice: Sequence[int]) -> Tensor:
    """A network as a mixture (3, 5), float64, with a single 1 in each row."""
    return torch.eye(len(OPERATIONS), dtype=torch.float64)[list(choice)]


@dataclass(frozen=True)
class NetworkTable:
    """The outer loss and the held-out accuracy of each network, at its own θ*."""

    outer_losses: dict[Choice, float]
    accuracies: dict[Choice, float]

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
    outer_losses, accuracies = {}, {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if row["setting"] == setting:
                    choice = _choice(row)
                    outer_losses[choice] = float(row["outer_loss"])
                    accuracies[choice] = float(row["accuracy"])
    except (OSError, UnicodeDecodeError, KeyError, ValueError, TypeError) as error:
        raise UserError(
            f"problem.table={path}: is no table of networks ({one_line(error, 80)}); "
            f"its columns are {', '.join(COLUMNS)}"
        ) from error
    if missing := sum(choice not in outer_losses for choice in choices()):
        raise UserError(
            f"problem.table={path}: lacks {missing} of the networks of this data, split and "
            f"width (setting {setting}): {MAKE}"
        )
    return NetworkTable(outer_losses, accuracies)


def known_choices(path: Path, setting: str) -> set[Choice]:
    """The networks of a setting that a file has already; none where there is no file."""
    if not path.exists():
        return set()
    with path.open(encoding="utf-8", newline="") as file:
        return {_choice(row) for row in csv.DictReader(file) if row["setting"] == setting}


def write_row(file: TextIO, setting: str, choice: Choice, loss: float, accuracy: float) -> None:
    """One network, with its loss to four decimals, so that networks that are equal are so here."""
    names = [OPERATIONS[operation] for operation in choice]
    csv.writer(file, lineterminator="\n").writerow(
        [setting, *names, f"{loss:.4f}", f"{accuracy:.4f}"]
    )


def _choice(row: dict[str, str]) -> Choice:
    first, second, third = (OPERATIONS.index(row[edge]) for edge in EDGES)
    return first, second, third
