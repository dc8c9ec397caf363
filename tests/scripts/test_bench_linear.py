"""scripts/bench/growth.py and logreg.py: made text, sizes and printed tables; no times."""

import csv
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from shine_exp.data.sets.synthetic import synthetic_text


@pytest.fixture
def growth(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("bench/growth")


@pytest.mark.parametrize(("n", "p", "per_row"), [(300, 200, 8), (40, 50, 50), (40, 50, 1)])
def test_made_text_has_as_many_entries_in_every_row(
    growth: ModuleType, n: int, p: int, per_row: int
) -> None:
    data = growth.made_text(growth.Size(n, p, n * per_row, 30))
    assert data.x.shape == (n, p)
    assert data.x.indices.dtype == np.int32
    assert data.x.has_canonical_format  # no column twice in a row
    assert set(np.diff(data.x.indptr)) == {per_row}


def test_made_text_has_frequent_and_rare_columns(growth: ModuleType) -> None:
    x = growth.made_text(growth.Size(4000, 1000, 4000 * 8, 30)).x
    frequency = np.sort(np.diff(x.tocsc().indptr))[::-1]
    assert frequency[0] == 4000
    # Zipf's law: each decade of ranks has as many entries.
    decades = [frequency[first - 1 : 10 * first - 1].sum() / x.nnz for first in (1, 10, 100)]
    assert max(decades) < 1.5 * min(decades)


def test_sizes_double_one_thing_at_a_time(growth: ModuleType) -> None:
    todo = list(growth.sizes(side=64, smallest=3, largest=15, memory=8))
    assert [size.nnz // 64 for name, size in todo if name == "nnz"] == [3, 6, 12]
    for name in growth.SERIES:
        series = [vars(size) for other, size in todo if other == name]
        for small, large in pairwise(series):
            assert large == {**small, name: 2 * small[name]}
        assert all(size["nnz"] % size["n"] == 0 for size in series)


@pytest.mark.slow
def test_growth_measures_a_size_in_a_process_of_its_own(growth: ModuleType) -> None:
    size = growth.Size(n=1500, p=1000, nnz=12_000, m=10)
    ballast = np.ones(1 << 26)
    ballast[::512] = 2.0
    (row,) = growth.in_fresh_processes([size], repeats=1)
    assert {key: row[key] for key in vars(size)} == vars(size)
    assert row["coordinates"] == "primal"
    assert row["passes_bytes_per_second"] > 0
    if sys.platform == "linux":
        assert growth.peak_bytes() > ballast.nbytes
        # Neither what this process holds, nor what the copy for the bandwidth takes.
        assert 1e7 < row["peak_bytes"] < 0.9 * growth.peak_bytes()


def test_growth_prints_and_writes_a_row_for_each_size(
    growth: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    def made_up(todo: Iterable, repeats: int) -> Iterator[dict]:
        for size in todo:
            took = {"step_seconds": 1e-6 * size.nnz, "peak_bytes": 2.0**30}
            speed = {"passes_bytes_per_second": 4e9, "copy_bytes_per_second": 8e9}
            yield {**vars(size), "coordinates": "primal", **took, **speed}

    monkeypatch.setattr(growth, "in_fresh_processes", made_up)
    options = ["--side", "64", "--smallest", "4", "--largest", "16", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["growth.py", *options])
    growth.main()
    _, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [*["nnz"] * 3, *["n"] * 3, *["p"] * 3, *["m"] * 3]
    assert lines[0].split()[5:] == ["primal", "0.3", "1.00", "4.0", "50%"]
    assert lines[1].split()[5:] == ["primal", "0.5", "(2.00)", "1.00", "(1.00)", "4.0", "50%"]
    with open(tmp_path / "growth.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["doubles"] for row in rows] == [line.split()[0] for line in lines]
    assert float(rows[2]["step_seconds"]) == pytest.approx(1e-6 * 1024)
    assert {path.name for path in tmp_path.iterdir()} == {"growth.csv", "growth.pdf", "growth.png"}


def test_growth_refuses_range_without_doubling(
    growth: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["growth.py", "--smallest", "8", "--largest", "15"])
    with pytest.raises(SystemExit) as caught:
        growth.main()
    assert caught.value.code == 2
    assert "--largest must be at least twice --smallest" in capsys.readouterr().err


def test_logreg_prints_ratio_last(
    script: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    logreg = script("bench/logreg")
    small = synthetic_text(1000, 3000, 30, seed=0, scaling="none")
    monkeypatch.setattr(logreg, "synthetic_text", lambda *sizes, **options: small)
    monkeypatch.setattr(sys, "argv", ["logreg.py", "--memory", "5", "--repeats", "3"])
    logreg.main()
    lines = capsys.readouterr().out.splitlines()
    assert [re.split(r"  +", line)[0] for line in lines[1:4]] == [
        "L-BFGS step",
        "CG product",
        "data passes",
    ]
    assert "memory 5, dual coordinates" in lines[1]
    assert re.fullmatch(r"ratio +\d+\.\d\d", lines[-1])
