"""Groups runs by setting and label, counts how they ended, and finds the best that any of them
reached.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shine_exp.figures.style import PROBLEMS, data_name
from shine_exp.runs.run import ENDED, Run

Setting = tuple[str, ...]


def is_finished(run: Run) -> bool:
    return run.info["status"] in ENDED


def place(run: Run) -> str:
    """The problem and the data, as in the name of the results folder: logreg-20news."""
    return f"{run.info['choices']['problem']}-{run.info['choices']['data']}"


def place_title(run: Run) -> str:
    """The problem and the data in words."""
    choices = run.info["choices"]
    return f"{PROBLEMS.get(choices['problem'], choices['problem'])}, {data_name(choices['data'])}"


def setting(run: Run) -> Setting:
    """The place and what was changed in either: only losses of one setting and one seed can be
    compared.
    """
    differs = run.info["differs"].items()
    return (
        place(run),
        *sorted(
            f"{key}={value}" for key, value in differs if key.startswith(("problem.", "data."))
        ),
    )


def by_label(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Runs of one place, grouped by label and sorted by it."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.label, []).append(run)
    return dict(sorted(groups.items(), key=natural))


def by_setting(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Runs of a study with rows, grouped by all but method and seed; the key is a title, with what
    not all changed.
    """
    groups: dict[Setting, list[Run]] = {}
    for run in (run for run in runs if len(run.trace)):
        differs = (f"{key}={value}" for key, value in run.info["differs"].items())
        groups.setdefault((place(run), *sorted(differs)), []).append(run)
    titled = {}
    for key, members in groups.items():
        shared = set.intersection(*(set(other) for other in groups if other[0] == key[0]))
        titled[
            ", ".join([place_title(members[0]), *(part for part in key if part not in shared)])
        ] = members
    return titled


@dataclass(frozen=True)
class Counts:
    """How the runs of one label ended; `missing` are seeds that other labels have and this one
    never started.
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
    return Counts(
        status["done"], status["diverged"], unfinished, missing=len(set(seeds) - seeds_of(runs))
    )


def seeds_of(runs: Iterable[Run]) -> set[int]:
    return {run.info["seed"] for run in runs}


def solved(run: Run) -> npt.NDArray[np.bool_]:
    """Which rows of a search are of an inner problem that met its tolerance; all, where a trace
    does not say.
    """
    trace = run.trace
    if not {"inner_residual", "tol"} <= set(trace):
        return np.ones(len(trace), dtype=bool)
    return (trace["inner_residual"] <= trace["tol"]).to_numpy()


def best_per_seed(runs: Iterable[Run], column: str) -> dict[tuple[Setting, int], float]:
    """The lowest finite value of a loss that any run, finished or not, of a setting and seed
    passed.

    An inner problem that was not solved has losses of its own, so its rows do not count.
    """
    return _lowest(runs, column, slice(None))


def best_end_per_seed(runs: Iterable[Run], column: str) -> dict[tuple[Setting, int], float]:
    """The lowest finite loss that any run, finished or not, of a setting and seed has come to by
    its last row.

    On its way a run can pass a lower outer loss than that of any θ*: a loosely solved θ is
    regularised by that too. For the same reason an end counts only where its inner problem was
    solved.
    """
    return _lowest(runs, column, slice(-1, None))


def _lowest(runs: Iterable[Run], column: str, rows: slice) -> dict[tuple[Setting, int], float]:
    best: dict[tuple[Setting, int], float] = {}
    for run in runs:
        values = run.trace[column].to_numpy()[rows]
        usable = np.isfinite(values) & solved(run)[rows]
        key = (setting(run), run.info["seed"])
        best[key] = min(best.get(key, np.inf), np.min(values[usable], initial=np.inf))
    return best


def unfinished_lines(runs: Iterable[Run]) -> list[str]:
    """One line for each label with unfinished runs: which seeds, and how they stand."""
    listed: dict[str, list[str]] = {}
    for run in runs:
        if not is_finished(run):
            listed.setdefault(f"{place(run)}, {run.label}", []).append(
                f"seed {run.info['seed']} {run.info['status']}"
            )
    return [
        f"not finished, so not in the table and the paper's figures: {where}: {', '.join(which)}"
        for where, which in sorted(listed.items())
    ]


def natural(item: tuple[str, object]) -> list[tuple[float, str]]:
    """Sorts numbers in a label by value: memory=5 before memory=10."""
    parts = re.split(r"([0-9]+)", item[0])  # texts and numbers in turn
    return [(float(part), "") if odd % 2 else (0.0, part) for odd, part in enumerate(parts)]
