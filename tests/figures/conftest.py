"""Run folders as shine-run leaves them, with numbers that the tests choose."""

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from traces import EPOCH, search_row

from shine_exp.figures import command
from shine_exp.loop import Row
from shine_exp.runs.history import write_json
from shine_exp.runs.run import CONFIG, INFO
from shine_exp.runs.trace import TraceWriter

AddRun = Callable[..., Path]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    return folder


@pytest.fixture
def add_run(results: Path) -> AddRun:
    """Writes a run of `method`.

    Its rows are dictionaries, or (time, products, outer loss, held-out loss).
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
            **{group: option for group, option in (differs or {}).items() if "/" in group},
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
    """Writes a training run of `method` with 10 steps per epoch.

    `epochs` has what to change in each. With `steps`, the method's number of backward steps
    differs from the default, 5. Pre-training ends at step 15.
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
        refines = method.startswith("refine")
        key = "method.steps.max_steps" if refines else "method.max_steps"
        inverse = {"steps": {"max_steps": steps}} if refines else {"max_steps": steps}
        differs = ({key: steps} if steps != 5 else {}) | more.pop("differs", {})
        more = {
            "where": ("mdeq", "digits_images"),
            "outer": "train",
            "suffix": f"-{len(differs)}-{steps}",
        } | more
        config = {"outer": {"pretrain_steps": 15}, "method": inverse}
        return add_run(method, seed, rows, config=config, differs=differs, **more)

    return add


@pytest.fixture
def shine_plot(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs the command; returns exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["shine-plot", *map(str, arguments)])
        code = 0
        try:
            command.main()
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        return code, *capsys.readouterr()

    return run
