"""A problem of a user's own, in a file of the working folder."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

RIDGE = '''
import torch

from shine_exp import AutodiffProblem


def ridge(seed: int, n: int = 40) -> AutodiffProblem:
    """A penalty exp(α_j) for each of five features."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2 * n, 5, dtype=torch.float64, generator=generator)
    y = x @ torch.arange(5.0, dtype=torch.float64) + torch.randn(
        2 * n, dtype=torch.float64, generator=generator
    )

    def inner(alpha, theta):
        return ((x[:n] @ theta - y[:n]) ** 2).sum() / 2 + (alpha.exp() * theta**2).sum() / 2

    def outer(alpha, theta):
        return ((x[n:] @ theta - y[n:]) ** 2).mean() / 2

    zeros = torch.zeros(5, dtype=torch.float64)
    return AutodiffProblem(inner, outer, zeros, zeros, lower=-6.0, upper=6.0)
'''
YAML = """
_target_: ridge_of_test.ridge
n: 40
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder mine/ with the problem `ridge`, whose module lies in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "ridge_of_test.py").write_text(RIDGE)
    path = tmp_path / "mine" / "problem" / "ridge.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(YAML)
    yield tmp_path / "mine"
    sys.modules.pop("ridge_of_test", None)
