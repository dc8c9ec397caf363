"""What the numbers of some runs rest on: solves that missed their tolerance, and the data."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from shine_exp.errors import UserError
from shine_exp.figures.grouping import Setting, place_of, setting
from shine_exp.figures.names import NO_DATA
from shine_exp.runs.run import Run

UNKNOWN = "not recorded"
N_DIGITS = 8  # of a digest, to be shown


class Missed(NamedTuple):
    """How many solves of one run missed their tolerance."""

    inner: int
    backward: int


@dataclass(frozen=True)
class Unsolved:
    """How many solves missed their tolerance, in `runs` of the `recorded` runs.

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
        parts = ["0"] if self.recorded else []
        if found:
            parts = [f"{found} in {self.runs} of {self.recorded} runs"]
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
    recorded = [missed for missed in map(_missed, runs) if missed is not None]
    return Unsolved(
        inner=sum(missed.inner for missed in recorded),
        backward=sum(missed.backward for missed in recorded),
        runs=sum(any(missed) for missed in recorded),
        recorded=len(recorded),
        unknown=len(runs) - len(recorded),
    )


def data_of(runs: Iterable[Run]) -> str:
    """The first digits of the digests of the data that some runs read."""
    shown = set()
    for run in runs:
        found = digest(run)
        unknown = UNKNOWN if reads_data(run) else NO_DATA
        shown.add(unknown if found is None else found[:N_DIGITS])
    return ", ".join(sorted(shown))


def reads_data(run: Run) -> bool:
    return bool(run.info["choices"]["data"] != NO_DATA)


def digest(run: Run) -> str | None:
    """The digest of what a run read as its data.

    None in a run that reads none, or that was made before digests were recorded.
    """
    found = (run.info.get("data") or {}).get("digest")
    return None if found is None else str(found)


def not_recorded_line(runs: Iterable[Run]) -> list[str]:
    """One line that counts the runs whose data nobody can compare, by place.

    No line where there are none.
    """
    reading = list(filter(reads_data, runs))
    total = Counter(map(place_of, reading))
    unknown = Counter(place_of(run) for run in reading if digest(run) is None)
    counts = [f"{where} {n} of {total[where]}" for where, n in sorted(unknown.items())]
    return [f"data not recorded, in runs of before: {', '.join(counts)}"] if counts else []


def refuse_mixed_data(runs: Iterable[Run]) -> list[UserError]:
    """An error for each setting in which a seed has runs of different data."""
    known: dict[tuple[Setting, int], dict[str, str]] = {}
    for run in runs:
        if (found := digest(run)) is not None:
            known.setdefault((setting(run), run.info["seed"]), {}).setdefault(found, run.label)
    errors: dict[Setting, UserError] = {}
    for (where, seed), labels in sorted(known.items()):
        if len(labels) > 1:
            which = ", ".join(
                f"{label} {found[:N_DIGITS]}" for found, label in sorted(labels.items())
            )
            different = f"{', '.join(where)}: seed {seed} has runs of different data ({which})"
            advice = (
                "whose losses do not compare; keep the runs of one data set in a results folder"
            )
            errors.setdefault(where, UserError(f"{different}, {advice}"))
    return list(errors.values())


def _missed(run: Run) -> Missed | None:
    """By the last row of its trace, which a running run has too, else by its run.json."""
    columns = ["unsolved_inner", "unsolved_backward"]
    if set(columns) <= set(run.trace) and len(run.trace):
        last = run.trace[columns].iloc[-1]
        if last.notna().all():
            return Missed(*map(int, last))
    recorded = run.info.get("unsolved")
    if recorded is None:
        return None
    return Missed(recorded.get("inner", 0), recorded.get("backward", 0))
