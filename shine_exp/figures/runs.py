"""Groups runs by setting and label, counts how they ended, and finds the best that any of them reached."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shine_exp.errors import UserError
from shine_exp.figures.style import PROBLEMS, data_name
from shine_exp.trace import Run

Setting = tuple[str, ...]
UNFINISHED = ("running", "interrupted", "failed")


def is_finished(run: Run) -> bool:
    return run.info["status"] in ("done", "diverged")


def place(run: Run) -> str:
    """The problem and the data, as in the name of the results folder: logreg-20news."""
    return f"{run.info['choices']['problem']}-{run.info['choices']['data']}"


def setting(run: Run) -> Setting:
    """The place and what was changed in either: only losses of one setting and one seed can be compared."""
    differs = run.info["differs"].items()
    return (place(run), *sorted(f"{key}={value}" for key, value in differs if key.startswith(("problem.", "data."))))


def by_label(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Runs of one place, grouped by label and sorted by it. Raises `UserError` where a seed would count twice."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.label, []).append(run)
    for label, members in groups.items():
        refuse_twins(label, members)
    return dict(sorted(groups.items(), key=natural))


def by_setting(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Runs of a study with rows, grouped by all but method and seed; the key is a title, with what not all changed."""
    groups: dict[Setting, list[Run]] = {}
    for run in (run for run in runs if len(run.trace)):
        differs = (f"{key}={value}" for key, value in run.info["differs"].items())
        groups.setdefault((place(run), *sorted(differs)), []).append(run)
    titled = {}
    for key, members in groups.items():
        shared = set.intersection(*(set(other) for other in groups if other[0] == key[0]))
        choices = members[0].info["choices"]
        title = f"{PROBLEMS.get(choices['problem'], choices['problem'])}, {data_name(choices['data'])}"
        titled[", ".join([title, *(part for part in key if part not in shared)])] = members
        refuse_twins(title, members)
    return titled


@dataclass(frozen=True)
class Counts:
    """How one label's runs ended, of `total` seeds; `missing` are seeds that other labels have and this one lacks."""

    total: int
    done: int
    diverged: int
    unfinished: int
    missing: int

    def __str__(self) -> str:
        seeds = f"{self.total} seed{'s' * (self.total != 1)}"
        rest = {"diverged": self.diverged, "unfinished": self.unfinished, "missing": self.missing}
        parts = [f"{n} {what}" for what, n in rest.items() if n]
        return f"{self.done} of {seeds}; {', '.join(parts)}" if parts else seeds


def count(runs: Sequence[Run], seeds: Collection[int]) -> Counts:
    """Counts for one label, `seeds` being those of a complete sweep."""
    status = Counter(run.info["status"] for run in runs)
    missing = len(set(seeds) - seeds_of(runs))
    return Counts(len(seeds), status["done"], status["diverged"], sum(status[name] for name in UNFINISHED), missing)


def seeds_of(runs: Iterable[Run]) -> set[int]:
    return {run.info["seed"] for run in runs}


def best_per_seed(runs: Iterable[Run], column: str) -> dict[tuple[Setting, int], float]:
    """The lowest finite value of a loss that any run, finished or not, of a setting and seed passed."""
    return _lowest(runs, column, slice(None))


def best_end_per_seed(runs: Iterable[Run], column: str) -> dict[tuple[Setting, int], float]:
    """The lowest finite loss that any run, finished or not, of a setting and seed has come to by its last row.

    On its way a run can pass a lower outer loss than that of any θ*: a loosely solved θ is regularised by that too.
    """
    return _lowest(runs, column, slice(-1, None))


def _lowest(runs: Iterable[Run], column: str, rows: slice) -> dict[tuple[Setting, int], float]:
    best: dict[tuple[Setting, int], float] = {}
    for run in runs:
        values = run.trace[column].to_numpy(float)[rows]
        key = (setting(run), run.info["seed"])
        best[key] = min(best.get(key, np.inf), np.min(values[np.isfinite(values)], initial=np.inf))
    return best


def unfinished_lines(runs: Iterable[Run]) -> list[str]:
    """One line for each label with unfinished runs: which seeds, and how they stand."""
    listed: dict[str, list[str]] = {}
    for run in runs:
        if not is_finished(run):
            listed.setdefault(f"{place(run)}, {run.label}", []).append(f"seed {run.info['seed']} {run.info['status']}")
    return [
        f"not finished, so not in the table and the paper's figures: {where}: {', '.join(which)}"
        for where, which in sorted(listed.items())
    ]


def natural(item: tuple[str, list[Run]]) -> list[tuple[float, str]]:
    """Sorts numbers in a label by value: memory=5 before memory=10."""
    parts = re.split(r"(\d+)", item[0])
    return [(float(part), "") if part.isdigit() else (0.0, part) for part in parts]


def refuse_twins(label: str, runs: Iterable[Run]) -> None:
    """Raises `UserError` where two runs have the same label and seed."""
    seen: dict[tuple[str, int], Path] = {}
    for run in runs:
        key = (run.label, run.info["seed"])
        if key in seen:
            raise UserError(f"{label} has seed {key[1]} twice: {seen[key]} and {run.folder}; move one of them away")
        seen[key] = run.folder
