"""A problem that does to its process what a test asks for, by the seed; and sweeps of it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PROBLEM = '''
import multiprocessing
import os
import signal

import torch

from shine_exp import AutodiffProblem
from shine_exp.errors import DataError


def at_risk(
    seed: int, killed: int, refused: int, broken: int, ends_the_sweep: int
) -> AutodiffProblem:
    """min_α ‖θ*(α) − 3/2‖²/2 with θ*(α) = argmin ‖θ‖²/2 + e^α ‖θ − 2‖²/2."""
    if seed == killed and not os.path.exists("spared"):
        os.kill(os.getpid(), signal.SIGKILL)
    if seed == refused and not os.path.exists("spared"):
        raise DataError("no data today")

    def inner(alpha, theta):
        return (theta**2).sum() / 2 + (alpha.exp() * (theta - 2) ** 2).sum() / 2

    def outer(alpha, theta):
        is_at_work = bool(alpha.detach().any()) and not os.path.exists("spared")
        if seed == broken and is_at_work:
            raise ValueError("no luck")
        if seed == ends_the_sweep and is_at_work:
            open("spared", "x").close()
            os.kill(multiprocessing.parent_process().pid, signal.SIGTERM)
        return ((theta - 1.5) ** 2).sum() / 2

    zeros = torch.zeros(2, dtype=torch.float64)
    return AutodiffProblem(inner, outer, zeros, zeros, lower=-6.0, upper=6.0)
'''
YAML = """
_target_: at_risk_of_test.at_risk
killed: -1
refused: -1
broken: -1
ends_the_sweep: -1
"""
OPTIONS = ("--config-dir=mine", "-m", "problem=at_risk", "outer.n_steps=3")


@pytest.fixture
def at_risk(tmp_path: Path) -> Path:
    """The working folder, with the problem `at_risk`. With a file `spared` there, all goes well."""
    (tmp_path / "at_risk_of_test.py").write_text(PROBLEM)
    path = tmp_path / "mine" / "problem" / "at_risk.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(YAML)
    return tmp_path


@pytest.fixture
def sweep(at_risk: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A sweep of `at_risk`, in a process of its own."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "shine_exp.runs.command", *OPTIONS, *arguments],
            cwd=at_risk,
            env=os.environ | {"PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{at_risk}"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run
