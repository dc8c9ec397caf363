"""Reading of a run: its folder holds run.json, config.yaml, trace.csv and solution.pt."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shine_exp import durable
from shine_exp.errors import UserError, one_line

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

TRACE, INFO, CONFIG, SOLUTION = "trace.csv", "run.json", "config.yaml", "solution.pt"
CHECKPOINT = "checkpoint.pt"  # while a run is not done
LOCK = ".lock"  # held by the process that is at work on the run
ENDED = ("done", "diverged")  # statuses of a run that no command takes further


@dataclass(frozen=True)
class Run:
    """One run on disk.

    `info` is run.json: `status`, `choices` (the option chosen in each configuration group:
    problem, data, solver, outer, method), `seed`, `differs` (dotted keys whose values are not the
    defaults of these choices), sizes of the sets (`n_train`, …), versions, host. The larger files
    are read when first asked for.
    """

    folder: Path
    info: dict[str, Any]

    @property
    def status(self) -> str:
        """ "running", "done", "diverged", "interrupted" or "failed"."""
        return str(self.info.get("status"))

    @property
    def label(self) -> str:
        """The method, and what was changed from its defaults."""
        method = str(self.info["choices"]["method"])
        changed = ", ".join(f"{key}={value}" for key, value in self.info["differs"].items())
        return f"{method} ({changed})" if changed else method

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.yaml. Raises `UserError` where it is damaged."""
        return read_config(self.folder)

    @cached_property
    def trace(self) -> "pd.DataFrame":
        """trace.csv: numbers are floats, an empty cell NaN. Raises `UserError` where it is damaged.

        That of a run that has just begun has no row. One that is not at its end may be in the
        middle of its last line, which then does not count.
        """
        return _read_trace(self.folder, ended=self.status in ENDED)

    @cached_property
    def solution(self) -> dict[str, Any]:
        """What the run found, as tensors on the CPU.

        That is α as "alpha" and θ as "theta", each in the shape (or the dict of tensors) that the
        problem was given in, or "network", the weights for a network's `load_state_dict`.

        Raises `UserError` where it is damaged, or was not kept: only a run that is done keeps it,
        and only what runtime.keep names.
        """
        return _read_solution(self.folder)


def load_runs(root: Path | str) -> list[Run]:
    """Every run below a folder, in path order.

    Raises `UserError` where there is no such folder, or a run.json is damaged.
    """
    if not Path(root).is_dir():
        raise UserError(f"no such results folder: {root}")
    return [load_run(folder) for folder in run_folders(Path(root))]


def run_folders(root: Path) -> list[Path]:
    """The folders of runs below `root`, in path order.

    They have a run.json, and a trace or a configuration beside it.
    """
    folders = [path.parent for path in sorted(root.rglob(INFO))]
    return [
        folder for folder in folders if (folder / CONFIG).is_file() or (folder / TRACE).is_file()
    ]


def load_run(folder: Path) -> Run:
    """The run in a folder. Raises `UserError` where its run.json is damaged."""
    info = read_info(folder)
    try:
        return Run(folder, _printable(info))
    except RecursionError as error:
        raise damaged(folder / INFO, "it is nested too deeply") from error


def trained(folder: str | None) -> Run | None:
    """The run of a folder, for a study of what it has found; None for no folder."""
    if folder is None:
        return None
    if not (Path(folder) / INFO).is_file():
        raise UserError(f"no run in {folder}: name the folder of one, where its {INFO} lies")
    return load_run(Path(folder))


def read_info(folder: Path) -> dict[str, Any]:
    """run.json of a folder. Raises `UserError` where it is damaged."""
    try:
        info = json.loads((folder / INFO).read_bytes())
    except (ValueError, OSError, RecursionError) as error:
        raise damaged(folder / INFO, str(error)) from error
    return _table(folder / INFO, info)


def read_config(folder: Path) -> dict[str, Any]:
    """config.yaml of a folder. Raises `UserError` where it is damaged."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is missing on some machines
    try:
        config = yaml.load((folder / CONFIG).read_bytes(), loader)
    except (ValueError, OSError, RecursionError, yaml.YAMLError) as error:
        raise damaged(folder / CONFIG, str(error)) from error
    return _table(folder / CONFIG, config)


def damaged(path: Path, why: str) -> UserError:
    """The error for a file of a run that is not what `shine-run` leaves."""
    reason = " ".join(why.split())
    then = "move this run's folder away, or delete it and run it again"
    return UserError(f"{path} cannot be used: {reason}; {then}")


def _read_trace(folder: Path, ended: bool) -> "pd.DataFrame":
    import pandas as pd

    path = folder / TRACE
    try:
        text = path.read_bytes().decode()
        whole = text[: text.rfind("\n") + 1]
        if ended and whole != text:
            raise ValueError("its last line is cut")
        if not whole:
            raise ValueError("it is empty")
        header, *rows = csv.reader(io.StringIO(whole, newline=""), strict=True)
        for number, row in enumerate(rows, 1):
            if len(row) != len(header):
                raise ValueError(f"row {number} has {len(row)} values for {len(header)} columns")
    except (ValueError, OSError, csv.Error) as error:
        raise damaged(path, str(error)) from error
    columns = zip(*rows, strict=True) if rows else [()] * len(header)
    return pd.DataFrame(
        {name: _column(values) for name, values in zip(header, columns, strict=True)}
    )


def _column(values: Sequence[str]) -> "npt.NDArray[Any]":
    """Numbers where all are, else texts."""
    import numpy as np

    try:
        return np.array([float(value or "nan") for value in values])
    except ValueError:
        return np.array(values, dtype=object)


def _read_solution(folder: Path) -> dict[str, Any]:
    import torch

    path = folder / SOLUTION
    try:
        content = io.BytesIO(durable.read(path))
        solution = torch.load(content, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        why = "the run is not done, or runtime.keep named nothing that it has"
        raise UserError(f"{path}: there is none; {why}") from error
    except Exception as error:  # torch.load tells of a damaged file in many ways
        raise damaged(path, one_line(error)) from error
    return _table(path, solution)


def _table(path: Path, content: Any) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise damaged(path, "it is not a table of names and values")
    return content


def _printable(content: Any) -> Any:
    """The same JSON with texts that fit in a line.

    What moves a terminal's cursor or cannot be encoded stands as its escape.
    """
    if isinstance(content, dict):
        return {_printable(key): _printable(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_printable(value) for value in content]
    if isinstance(content, str) and not content.isprintable():
        return "".join(
            c if c.isprintable() else c.encode("unicode_escape").decode() for c in content
        )
    return content
