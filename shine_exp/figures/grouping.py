"""Groups runs by what must be equal for a comparison, and counts how they ended."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from shine_exp.figures.names import changed, place_title
from shine_exp.runs.run import ENDED, Run

Setting = tuple[str, ...]


def is_finished(run: Run) -> bool:
    return run.info["status"] in ENDED


def place_of(run: Run) -> str:
    """The problem and the data, as in the name of the results folder: logreg-20news."""
    return f"{run.info['choices']['problem']}-{run.info['choices']['data']}"


def setting(run: Run) -> Setting:
    """The place and what was changed in the problem or the data.

    Only losses of one setting and one seed can be compared.
    """
    changes = run.info["differs"].items()
    kept = (f"{key}={value}" for key, value in changes if key.startswith(("problem.", "data.")))
    return (place_of(run), *sorted(kept))


def by_label(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Runs of one place, grouped by label and sorted by it."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.label, []).append(run)
    return dict(sorted(groups.items(), key=natural))


def by_setting(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Runs of a study with rows, grouped by all but method and seed.

    The key is a title: the place, and those changes that not every group of the place has.
    """
    groups: dict[Setting, list[Run]] = {}
    for run in runs:
        if len(run.trace):
            changes = (changed(key, value) for key, value in run.info["differs"].items())
            groups.setdefault((place_of(run), *sorted(changes)), []).append(run)
    titled = {}
    for group, members in groups.items():
        where = group[0]
        shared = set.intersection(*(set(other) for other in groups if other[0] == where))
        own = [part for part in group if part not in shared]
        titled[", ".join([place_title(members[0]), *own])] = members
    return titled


@dataclass(frozen=True)
class Counts:
    """How the runs of one label ended.

    `missing` are seeds that other labels have and this one never started.
    """

    done: int
    diverged: int
    unfinished: int
    missing: int

    @property
    def started(self) -> int:
        return self.done + self.diverged + self.unfinished

    def __str__(self) -> str:
        seeds = f"{self.started} seed{'s' * (self.started != 1)}"
        rest = {"diverged": self.diverged, "unfinished": self.unfinished, "missing": self.missing}
        parts = [f"{n} {what}" for what, n in rest.items() if n]
        ended = seeds if self.done == self.started else f"{self.done} of {seeds}"
        return f"{ended}; {', '.join(parts)}" if parts else ended


def count(runs: Sequence[Run], seeds: Collection[int]) -> Counts:
    """Counts for one label, `seeds` being those of a complete sweep."""
    status = Counter(run.info["status"] for run in runs)
    unfinished = len(runs) - sum(status[name] for name in ENDED)
    missing = len(set(seeds) - seeds_of(runs))
    return Counts(status["done"], status["diverged"], unfinished, missing)


def seeds_of(runs: Iterable[Run]) -> set[int]:
    return {run.info["seed"] for run in runs}


def unfinished_lines(runs: Iterable[Run]) -> list[str]:
    """One line for each label with unfinished runs: which seeds, and how they stand."""
    listed: dict[str, list[str]] = {}
    for run in runs:
        if not is_finished(run):
            stands = f"seed {run.info['seed']} {run.info['status']}"
            listed.setdefault(f"{place_of(run)}, {run.label}", []).append(stands)
    return [
        f"not finished, so not in the table and the paper's figures: {where}: {', '.join(which)}"
        for where, which in sorted(listed.items())
    ]


def natural(item: tuple[str, object]) -> list[tuple[float, str]]:
    """Sorts numbers in a label by value: memory=5 before memory=10."""
    parts = re.split(r"([0-9]+)", item[0])  # texts and numbers in turn
    return [(float(part), "") if odd % 2 else (0.0, part) for odd, part in enumerate(parts)]
