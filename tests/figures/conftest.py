"""Run folders as shine-run leaves them, with numbers that the tests choose."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from traces import search_row

from shine_exp.runs.trace import CONFIG, INFO, Row, TraceWriter, write_json

AddRun = Callable[..., Path]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    return folder


@pytest.fixture
def add_run(results: Path) -> AddRun:
    """Writes a run of `method`: rows are dictionaries, or (time, products, outer loss, held-out
    loss).
    """

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
        config: Mapping[str, Any] | None = None,
        info: Mapping[str, Any] | None = None,
    ) -> Path:
        folder = results / "-".join(where) / method / f"seed={seed}{suffix}"
        folder.mkdir(parents=True)
        full = [
            row if isinstance(row, Mapping) else search_row(step, *row)
            for step, row in enumerate(rows)
        ]
        writer = TraceWriter(folder, list(full[0]))
        for row in full:
            writer.append(row)
        writer.close()
        (folder / CONFIG).write_text(yaml.safe_dump({"seed": seed, **(config or {})}))
        choices = {
            "problem": where[0],
            "data": where[1],
            "solver": "lbfgs",
            "outer": outer,
            "method": method,
        }
        left = {
            "status": status,
            "choices": choices,
            "seed": seed,
            "differs": dict(differs or {}),
            **(info or {}),
        }
        write_json(folder / INFO, left)
        return folder

    return add


@pytest.fixture
def add_network(add_run: AddRun) -> AddRun:
    """Writes a training run of `method` with 10 steps per epoch, an epoch for each of `epochs`:
    what to change in it.

    With `steps`, the method's number of backward steps differs from the default, 5. Pre-training
    ends at step 15.
    """

    def add(
        method: str,
        seed: int,
        epochs: Iterable[Mapping[str, float]],
        *,
        steps: int = 5,
        **more: Any,
    ) -> Path:
        rows = [
            EPOCH | {"step": 10 * n, "time": 2.0 * n, "epoch": n} | dict(epoch)
            for n, epoch in enumerate(epochs, 1)
        ]
        nested = (
            {"steps": {"max_steps": steps}} if method.startswith("refine") else {"max_steps": steps}
        )
        key = f"method.inverse.{'steps.' if method.startswith('refine') else ''}max_steps"
        differs = ({key: steps} if steps != 5 else {}) | more.pop("differs", {})
        more = {
            "where": ("mdeq", "digits_images"),
            "outer": "train",
            "suffix": f"-{len(differs)}-{steps}",
        } | more
        config = {"outer": {"pretrain_steps": 15}, "method": {"inverse": nested}}
        return add_run(method, seed, rows, config=config, differs=differs, **more)

    return add


EPOCH = {
    "step": 0,
    "time": 0.0,
    "epoch": 0,
    "test_loss": 0.5,
    "accuracy": 0.9,
    "spectral_radius": 0.6,
    "train_loss": 0.4,
    "forward_residual": 1e-3,
    "backward_residual": 1e-2,
    "converged": 0.75,
    "products": 6.0,
    "fell_back": "",
    "forward_ms": 20.0,
    "backward_ms": 10.0,
}
