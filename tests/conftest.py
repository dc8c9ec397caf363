import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hypothesis import settings

from shine_exp.runs.command import main

THREADS = int(os.environ.get("SHINE_TEST_THREADS", "1"))  # each of pytest's workers has one core

signal.signal(
    signal.SIGINT, signal.default_int_handler
)  # ignored where the tests run in a shell's background
settings.register_profile("same every time", derandomize=True, deadline=None)
settings.load_profile("same every time")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _threads() -> None:
    torch.set_num_threads(THREADS)  # a run in this process sets its own


@pytest.fixture
def without_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which compiles kernels for every new shape: most of the time of a small network."""
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)


@dataclass(frozen=True)
class Outcome:
    """What `shine-run` did: its exit code, and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """A script's module by its path in scripts/; those of one folder import each other as they do
    when one is run.
    """

    def load(path: str) -> ModuleType:
        folder, _, name = path.rpartition("/")
        where = Path(__file__).parent.parent / "scripts" / folder
        monkeypatch.syspath_prepend(str(where))
        module = importlib.import_module(name)
        assert module.__file__ == str(where / f"{name}.py"), "two scripts have one name"
        return module

    return load


@pytest.fixture
def shine_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> Callable[..., Outcome]:
    """The command, in this process and in an empty folder; results lie in tmp_path / "results"."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")

    def run(*arguments: str) -> Outcome:
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", ["shine-run", *arguments])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        finally:
            GlobalHydra.instance().clear()
        printed = capsys.readouterr()
        return Outcome(code, printed.out, printed.err)

    return run


@pytest.fixture
def terminated(tmp_path: Path) -> Callable[..., Outcome]:
    """The command in a process of its own, sent SIGTERM once a trace has so many lines."""

    def run(*arguments: str, lines: int, seconds: float) -> Outcome:
        process = subprocess.Popen(
            [sys.executable, "-m", "shine_exp.runs.command", *arguments],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            deadline = time.monotonic() + seconds
            while not any(
                path.read_text().count("\n") >= lines for path in tmp_path.rglob("trace.csv")
            ):
                assert time.monotonic() < deadline
                assert process.poll() is None
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=seconds)
        finally:
            process.kill()
            process.wait()
        return Outcome(process.returncode, "", err)

    return run


@pytest.fixture
def folders(tmp_path: Path) -> Callable[[], list[Path]]:
    """The folders of all runs so far."""
    return lambda: sorted(path.parent for path in (tmp_path / "results").rglob("config.yaml"))


def status(folder: Path) -> str:
    return json.loads((folder / "run.json").read_text())["status"]


def trace(folder: Path) -> pd.DataFrame:
    """The trace as text, to the last digit."""
    return pd.read_csv(folder / "trace.csv", dtype=str, keep_default_na=False)


@pytest.fixture(name="status")
def _status() -> Callable[[Path], str]:
    return status


@pytest.fixture(name="trace")
def _trace() -> Callable[[Path], pd.DataFrame]:
    return trace
