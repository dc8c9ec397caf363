"""A sweep on disk: RESULTS/.launcher/NAME.json says which runs it has, NAME.txt how it ended."""

import hashlib
import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from shine_exp import durable
from shine_exp.errors import UserError
from shine_exp.runs.run import damaged

SWEEPS = ".launcher"  # in the results folder
WHERE_AND_HOW = ("runtime.", "hydra.", "hydra/")  # of overrides: changes nothing of which runs


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep, by its overrides.

    `folder` lies below the results folder, and is None where the run cannot be composed. `refused`
    is why the run was never begun.
    """

    overrides: Sequence[str]
    folder: str | None
    refused: str | None = None


@dataclass(frozen=True)
class Sweep:
    """A sweep by its command: the words after `shine-run`, of which `options` go with each run."""

    name: str
    arguments: Sequence[str]
    options: Sequence[str]
    runs: Sequence[SweepRun]

    @property
    def command(self) -> str:
        return shlex.join(["shine-run", *self.arguments])

    def command_of(self, run: SweepRun) -> str:
        """Makes one run alone."""
        return shlex.join(["shine-run", *self.options, *run.overrides])

    def with_refusals(self, refused: dict[int, str]) -> "Sweep":
        """With what kept the runs of these places from beginning, and no other."""
        runs = [replace(run, refused=refused.get(i)) for i, run in enumerate(self.runs)]
        return replace(self, runs=runs)


def sweep_name(title: str, runs: Sequence[Sequence[str]]) -> str:
    """The title and a digest of the runs, wherever and however they are made."""
    which = [[one for one in run if not one.startswith(WHERE_AND_HOW)] for run in runs]
    return f"{title}-{hashlib.sha256(json.dumps(sorted(which)).encode()).hexdigest()[:8]}"


def save_sweep(root: Path, sweep: Sweep) -> None:
    """Write the record. The folder must be there."""
    durable.write(path_of(root, sweep.name, ".json"), json.dumps(asdict(sweep)).encode())


def path_of(root: Path, name: str, suffix: str) -> Path:
    return root / SWEEPS / f"{name}{suffix}"


def load_sweeps(root: Path) -> Iterator[Sweep]:
    """The sweeps of a results folder, by name. Raises `UserError` for a damaged record."""
    for path in sorted((root / SWEEPS).glob("*.json")):
        try:
            content = json.loads(durable.read(path))
            runs = [SweepRun(**run) for run in content.pop("runs")]
            yield Sweep(**content, runs=runs)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise _damaged(path, error) from error


def _damaged(path: Path, error: Any) -> UserError:
    return damaged(path, str(error))
