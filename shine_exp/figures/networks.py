"""Runs that train a network: grouped by what must be equal for a comparison, and how they ended."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from shine_exp.figures.grouping import natural, place_of
from shine_exp.figures.names import changed, data_part, problem_name
from shine_exp.runs.run import CONFIG, Run, damaged

MODEL = "problem/model"
# In the title of a network, at their defaults, too
CHOSEN = {MODEL: "{}", "problem/grid": "{}", "problem/cell": "with cell {}"}
OF_METHOD = ("method.", "solver")  # changes of these make a variant; all others another network
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
    def all_runs(self) -> list[Run]:
        return [run for members in self.runs.values() for run in members]


def by_network(runs: Iterable[Run]) -> list[Network]:
    """Runs grouped by all but method, solver and seed, then by label."""
    groups: dict[tuple[str, ...], dict[str, list[Run]]] = {}
    for run in runs:
        changes = run.info["differs"].items()
        others = (f"{key}={value}" for key, value in changes if not key.startswith(OF_METHOD))
        network = groups.setdefault((place_of(run), *sorted(others)), {})
        network.setdefault(method_label(run), []).append(run)
    return [
        Network(_title(next(iter(members.values()))[0]), dict(sorted(members.items(), key=natural)))
        for _, members in sorted(groups.items())
    ]


def method_label(run: Run) -> str:
    """The method, and in words what was changed in it or in the solver."""
    changes = run.info["differs"].items()
    own = [changed(key, value) for key, value in changes if key.startswith(OF_METHOD)]
    method = str(run.info["choices"]["method"])
    return f"{method} ({', '.join(own)})" if own else method


def configured(run: Run, *keys: str) -> Any:
    """The value of a dotted key in the configuration of a run.

    Further keys are those of earlier versions. Raises `UserError` where there is none of them.
    """
    for key in keys:
        value: Any = run.config
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            return value
    raise damaged(run.folder / CONFIG, f"{keys[0]} is missing")


def pretrain_steps(run: Run) -> int:
    """The steps of pre-training. Raises `UserError` where a run has no such number."""
    steps = configured(run, "outer.pretrain_steps")
    if not isinstance(steps, int):
        raise damaged(run.folder / CONFIG, "outer.pretrain_steps is not a whole number")
    return steps


def measured_by_any(runs: Iterable[Run], quantities: Mapping[str, str]) -> dict[str, str]:
    """Those of some columns, with their titles, that the trace of any run has."""
    measured = {column for run in runs for column in run.trace}
    return {column: title for column, title in quantities.items() if column in measured}


def outcomes(runs: Iterable[Run]) -> pd.DataFrame:
    """A row for each run that is done: `LAST` from its last epoch, and `TYPICAL`, both as columns.

    Accuracy is in percent. What is typical is the median over the epochs that began after
    pre-training, which has another backward pass. NaN where a run has no such epoch, or its task
    does not measure the quantity.
    """
    rows = []
    for run in runs:
        if run.info["status"] == "done" and len(run.trace):
            last = run.trace.iloc[-1]
            began = run.trace["step"].shift(fill_value=0)
            after = run.trace[began >= pretrain_steps(run)]
            row = {name: float(last.get(name, float("nan"))) for name in LAST}
            row |= {name: float(after[name].median()) for name in TYPICAL}
            rows.append(row | {"seed": run.info["seed"], "accuracy": 100 * row["accuracy"]})
    return pd.DataFrame(rows, columns=["seed", *LAST, *TYPICAL])


def _title(run: Run) -> str:
    """The problem with its model, or grid and cell, the data, and further changes."""
    choices = run.info["choices"]
    chosen = [words.format(choices[group]) for group, words in CHOSEN.items() if group in choices]
    parts = [" ".join([problem_name(run), *chosen]), *data_part(run)]
    for key, value in run.info["differs"].items():
        if not key.startswith(OF_METHOD) and key not in (*CHOSEN, "outer"):
            parts.append(changed(key, value))
    return ", ".join(parts)
