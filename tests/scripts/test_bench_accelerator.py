"""scripts/bench/accelerator.py on a CPU, with a small network."""

import csv
from collections.abc import Callable
from types import ModuleType

import pytest


@pytest.fixture
def bench(script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = script("bench/accelerator")
    monkeypatch.setattr(module, "METHODS", ("jf", "shine"))
    return module


def rows(bench: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path, *options: str) -> list[dict]:
    out = tmp_path / "rows.csv"
    command = ["accelerator.py", "--device=cpu", "--model=micro", "--batch=2", f"--out={out}"]
    monkeypatch.setattr("sys.argv", [*command, "--repeats=1", "--no-peer", *options])
    bench.main()
    return list(csv.DictReader(out.open()))


def test_accelerator_bench_writes_a_row_for_each_kind(bench, monkeypatch, tmp_path) -> None:
    found = rows(bench, monkeypatch, tmp_path, "--no-compile")
    correct = [row for row in found if row["kind"] == "correct"]
    assert [(row["contender"], float(row["error"])) for row in correct] == [("jf", 0), ("shine", 0)]
    steps = {(r["way"], r["precision"]): r for r in found if r["kind"] == "step"}
    assert set(steps) == {(w, p) for w in ("eager", "graph") for p in ("float32", "bfloat16")}
    assert all(float(row["step_ms"]) > 0 for row in steps.values())
    losses = [float(steps[way, "float32"]["loss"]) for way in ("eager", "graph")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    layers = [row for row in found if row["kind"] == "layer"]
    assert {row["contender"] for row in layers} == {"jf", "shine", "full@anderson"}
    assert all(float(row["forward_ms"]) > 0 for row in layers)


def test_accelerator_bench_says_what_it_had_no_time_for(
    bench, monkeypatch, tmp_path, capsys
) -> None:
    assert rows(bench, monkeypatch, tmp_path, "--minutes=0") == []
    out = capsys.readouterr().out
    assert "left out, for want of time: step micro 2 bfloat16 compiled shine" in out
