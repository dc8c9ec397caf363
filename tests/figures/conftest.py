"""Run folders as shine-run leaves them, with numbers that the tests choose."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from shine_exp.trace import CONFIG, INFO, Row, TraceWriter, write_json

AddRun = Callable[..., Path]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    return folder


@pytest.fixture
def add_run(results: Path) -> AddRun:
    """Writes a run of `method`: rows are dictionaries, or (time, products, outer loss, held-out loss)."""

    def add(
        method: str,
        seed: int,
        rows: Iterable[Row | tuple[float, int, float, float]],
        *,
        where: tuple[str, str] = ("logreg", "20news"),
        outer: str = "hoag",
        status: str = "done",
        differs: Mapping[str, Any] | None = None,
        suffix: str = "",
    ) -> Path:
        folder = results / "-".join(where) / method / f"seed={seed}{suffix}"
        folder.mkdir(parents=True)
        full = [row if isinstance(row, Mapping) else _search_row(step, *row) for step, row in enumerate(rows)]
        writer = TraceWriter(folder, list(full[0]))
        for row in full:
            writer.append(row)
        writer.close()
        (folder / CONFIG).write_text(yaml.safe_dump({"seed": seed}))
        choices = {"problem": where[0], "data": where[1], "solver": "lbfgs", "outer": outer, "method": method}
        write_json(folder / INFO, {"status": status, "choices": choices, "seed": seed, "differs": dict(differs or {})})
        return folder

    return add


def _search_row(step: int, time: float, products: int, outer: float, test: float) -> Row:
    evals = products // 2
    costs = {"step": step, "time": float(time), "inner_steps": 0, "evals": evals, "products": products - evals}
    return {**costs, "alpha": 0.0, "outer_loss": float(outer), "test_loss": float(test)}
