"""What the numbers of some runs rest on: solves that missed their tolerance, and the data that
were read.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shine_exp.errors import UserError
from shine_exp.figures.runs import Setting, place, setting
from shine_exp.runs.run import Run

UNKNOWN = "not recorded"


@dataclass(frozen=True)
class Unsolved:
    """How many `inner` and `backward` solves missed their tolerance, in how many of the `recorded`
    runs.

    `unknown` is the number of runs that were made before such solves were counted.
    """

    inner: int
    backward: int
    runs: int
    recorded: int
    unknown: int

    def __str__(self) -> str:
        counts = {"inner": self.inner, "backward": self.backward}
        found = " + ".join(f"{n} {what}" for what, n in counts.items() if n)
        parts = (
            [f"{found} in {self.runs} of {self.recorded} runs"]
            if found
            else ["0"] * bool(self.recorded)
        )
        if self.unknown:
            parts.append(f"{self.unknown} {UNKNOWN}" if parts else UNKNOWN)
        return "; ".join(parts)

    def numbers(self) -> dict[str, int | None]:
        """Columns of a CSV, empty where no run counted."""
        counts = {"runs": self.runs, "inner": self.inner, "backward": self.backward}
        known: dict[str, int | None] = {
            f"unsolved_{name}": n if self.recorded else None for name, n in counts.items()
        }
        return known | {"unsolved_not_recorded": self.unknown}


def unsolved(runs: Sequence[Run]) -> Unsolved:
    """The solves of some runs that missed their tolerance, finished or not."""
    counts = [found for found in map(_unsolved, runs) if found is not None]
    affected = sum(any(pair) for pair in counts)
    inner, backward = (sum(pair[i] for pair in counts) for i in (0, 1))
    return Unsolved(inner, backward, affected, len(counts), len(runs) - len(counts))


def data_of(runs: Iterable[Run]) -> str:
    """The first digits of the digests of the data that some runs read."""
    return ", ".join(sorted({(digest(run) or "")[:8] or UNKNOWN for run in runs}))


def digest(run: Run) -> str | None:
    """The digest of what a run read as its data; None in a run of before."""
    found = run.info.get("data", {}).get("digest")
    return None if found is None else str(found)


def not_recorded_line(runs: Iterable[Run]) -> list[str]:
    """One line that counts the runs whose data nobody can compare, by place; none where there are
    none.
    """
    total: dict[str, int] = {}
    unknown: dict[str, int] = {}
    for run in runs:
        total[place(run)] = total.get(place(run), 0) + 1
        unknown[place(run)] = unknown.get(place(run), 0) + (digest(run) is None)
    counts = [f"{where} {n} of {total[where]}" for where, n in sorted(unknown.items()) if n]
    return [f"data not recorded, in runs of before: {', '.join(counts)}"] if counts else []


def refuse_mixed_data(runs: Iterable[Run]) -> list[UserError]:
    """An error for each setting in which a seed has runs of different data, so that their losses
    do not compare.
    """
    known: dict[tuple[Setting, int], dict[str, str]] = {}
    for run in runs:
        if (found := digest(run)) is not None:
            known.setdefault((setting(run), run.info["seed"]), {}).setdefault(found, run.label)
    errors: dict[Setting, UserError] = {}
    for (where, seed), labels in sorted(known.items()):
        if len(labels) > 1:
            which = ", ".join(f"{label} {found[:8]}" for found, label in sorted(labels.items()))
            message = f"{', '.join(where)}: seed {seed} has runs of different data ({which}), whose losses do not compare"
            errors.setdefault(
                where, UserError(f"{message}; keep the runs of one data set in a results folder")
            )
    return list(errors.values())


def _unsolved(run: Run) -> tuple[int, int] | None:
    """By the last row of its trace, which a running run has too, else by its run.json."""
    columns = ["unsolved_inner", "unsolved_backward"]
    if set(columns) <= set(run.trace) and len(run.trace):
        last = run.trace[columns].iloc[-1]
        if last.notna().all():
            return int(last.iloc[0]), int(last.iloc[1])
    recorded = run.info.get("unsolved")
    return None if recorded is None else (recorded.get("inner", 0), recorded.get("backward", 0))
