"""Runs that train a network: grouped by what must be equal for a comparison, and what each ended
with.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from shine_exp.figures.read import TRAIN, pretrain_steps
from shine_exp.figures.runs import is_finished, natural, place
from shine_exp.figures.style import PROBLEMS, data_name
from shine_exp.runs.run import CONFIG, Run, damaged

MODEL = "problem/model"
OF_METHOD = (
    "method.",
    "solver",
)  # changes that make a variant of the method; all others make another setting
LAST = (
    "accuracy",
    "test_loss",
    "spectral_radius",
    "forward_residual",
    "converged",
    "backward_residual",
    "fell_back",
)
TYPICAL = ("forward_ms", "backward_ms", "products")


@dataclass(frozen=True)
class Network:
    """The runs of one problem, model, data and training budget, by the method and its changes."""

    title: str
    runs: dict[str, list[Run]]

    @property
    def everything(self) -> list[Run]:
        return [run for members in self.runs.values() for run in members]


def is_training(run: Run) -> bool:
    return bool(run.info["choices"]["outer"] == TRAIN)


def by_network(runs: Iterable[Run]) -> list[Network]:
    """Runs grouped by all but method, solver and seed, then by label."""
    groups: dict[tuple[str, ...], dict[str, list[Run]]] = {}
    for run in runs:
        others = (
            f"{key}={value}"
            for key, value in run.info["differs"].items()
            if not key.startswith(OF_METHOD)
        )
        key = (place(run), *sorted(others))
        groups.setdefault(key, {}).setdefault(method_label(run), []).append(run)
    ordered = [dict(sorted(members.items(), key=natural)) for _, members in sorted(groups.items())]
    return [Network(_title(next(iter(members.values()))[0]), members) for members in ordered]


def method_label(run: Run) -> str:
    """The method, and what was changed in it or in the solver."""
    changed = [
        f"{key}={value}" for key, value in run.info["differs"].items() if key.startswith(OF_METHOD)
    ]
    method = str(run.info["choices"]["method"])
    return f"{method} ({', '.join(changed)})" if changed else method


def configured(run: Run, key: str) -> Any:
    """The value of a dotted key in the configuration of a run.

    Raises `UserError` where there is none.
    """
    value: Any = run.config
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            raise damaged(run.folder / CONFIG, f"{key} is missing")
        value = value[part]
    return value


def outcomes(runs: Iterable[Run]) -> pd.DataFrame:
    """A row for each run that is done: `LAST` from its last epoch (accuracy in percent), and
    `TYPICAL`.

    Those are medians over the epochs that began after pre-training, which has another backward
    pass; else NaN.
    """
    rows = [_outcome(run) for run in runs if run.info["status"] == "done" and len(run.trace)]
    return pd.DataFrame(rows, columns=["seed", *LAST, *TYPICAL])


def finished_training(runs: Iterable[Run]) -> list[Run]:
    return [run for run in runs if is_training(run) and is_finished(run) and len(run.trace)]


def _outcome(run: Run) -> dict[str, float]:
    last = run.trace.iloc[-1]
    began = run.trace["step"].shift(fill_value=0)
    after = run.trace[began >= pretrain_steps(run)]
    row = {name: float(last[name]) for name in LAST} | {
        name: float(after[name].median()) for name in TYPICAL
    }
    return row | {"seed": run.info["seed"], "accuracy": 100 * row["accuracy"]}


def _title(run: Run) -> str:
    choices, differs = run.info["choices"], run.info["differs"]
    problem = PROBLEMS.get(choices["problem"], choices["problem"])
    parts = [f"{problem} {choices.get(MODEL, '')}".strip(), data_name(choices["data"])]
    shown = (
        key for key in differs if not key.startswith(OF_METHOD) and key not in (MODEL, "outer")
    )
    parts += [
        f"{key}={Path(str(differs[key])).name if key == 'data.path' else differs[key]}"
        for key in shown
    ]
    return ", ".join(parts)
