"""scripts/bench/train_card.py on the CPU, with a small network."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from shine_exp.runs.run import Run

SMALL = (
    "data=digits_images",
    "problem/model=micro",
    "problem.architecture.channels=[4,8]",
    "problem.architecture.head_channels=[2,2]",
    "problem.architecture.final_channels=8",
    "problem.architecture.expansion=1",
    "problem.architecture.groups=2",
    "problem.batch_size=448",  # two steps
    "data.test_fraction=0.5",
    "solver.max_steps=4",
    "outer.epochs=1",
    "outer.pretrain_steps=1",
    "outer.n_power_steps=0",
)

pytestmark = pytest.mark.usefixtures("without_onednn")


@pytest.fixture
def train_card(
    script: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ModuleType:
    monkeypatch.chdir(tmp_path)
    return script("bench/train_card")


def call(module: ModuleType, folder: str, *more: str) -> int:
    return module.main([folder, *SMALL, *more, "--device", "cpu", "--minutes", "100"])


@pytest.mark.slow
def test_calls_of_train_card_go_on_with_each_other_to_the_same_numbers(
    train_card: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The minutes of every call are over after a step."""

    def in_no_time(*overrides: str, verbose: bool, make: Callable = train_card.run) -> Run:
        return make(*overrides, "runtime.max_minutes=1e-9", verbose=verbose)

    chosen = ("--methods", "shine", "jf", "--seeds", "3")
    with monkeypatch.context() as patch:
        patch.setattr(train_card, "run", in_no_time)
        assert call(train_card, "card", *chosen) == 130
        assert "interrupted, step 1 of 2" in capsys.readouterr().out
        assert [call(train_card, "card", *chosen) for _ in range(2)] == [130, 0]
    assert call(train_card, "whole", *chosen) == 0
    printed = capsys.readouterr().out
    assert "seed 3: done, epoch 1, accuracy " in printed
    traces = sorted(Path("card").rglob("trace.csv"))
    assert len(traces) == 2
    for trace in traces:
        clocks = ["time", "forward_ms", "backward_ms"]
        whole = pd.read_csv(Path("whole") / trace.relative_to("card"))
        pd.testing.assert_frame_equal(
            pd.read_csv(trace).drop(columns=clocks), whole.drop(columns=clocks)
        )


def test_train_card_begins_no_run_without_the_time_for_it(train_card: ModuleType) -> None:
    assert train_card.main(["card", *SMALL, "--device", "cpu", "--minutes", "0.05"]) == 130
    assert not Path("card").exists()


def test_train_card_refuses_in_one_line(
    train_card: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(train_card, "card", "outer.tol=0") == 2
    assert capsys.readouterr().err.startswith("train_card.py: outer.tol=0: must be greater than 0")
