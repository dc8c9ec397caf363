"""Several processes that share the batches of a training: the numbers of one, and how they end."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import shared_training
import torch
from filelock import FileLock
from test_sudoku import sudoku

from shine_exp.errors import UserError
from shine_exp.processes import Processes

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
SHINE_RUN = ("-m", "shine_exp.runs.command")
FOLDER = Path(__file__).parent / "shared_task"
TRAIN = (f"--config-dir={FOLDER}", "problem=shared", "method=jf")
CLOCKS = ["time", "forward_ms", "backward_ms"]
Ended = subprocess.CompletedProcess[str]


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., Ended]:
    """Python with these arguments, in tmp_path."""
    paths = f"{os.environ.get('PYTHONPATH', '')}:{FOLDER}"

    def run(*arguments: str) -> Ended:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


def lines(ended: Ended) -> list[str]:
    """What our command has said of what went wrong."""
    return [line for line in ended.stderr.splitlines() if line.startswith("shine-run: ")]


def starts(folder: Path) -> list[str]:
    """How each start of the run has ended."""
    return [start["status"] for start in json.loads((folder / "run.json").read_text())["starts"]]


def test_two_processes_have_the_numbers_of_one(python) -> None:
    """At each of twenty steps in float64, and with a penalty whose directions are drawn."""
    made = python(*TORCHRUN, shared_training.__file__)
    assert made.returncode == 0, made.stderr
    found, expected = json.loads(made.stdout), shared_training.all_logs()
    for name, log in expected.items():
        for column in set(log) - set(CLOCKS):
            assert found[name][column] == pytest.approx(log[column], rel=1e-9), (name, column)


@pytest.mark.slow
def test_signal_to_one_process_ends_both_and_one_alone_goes_on(
    python, shine_run, folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    ended = python(*TORCHRUN, *SHINE_RUN, *TRAIN, "problem.struck=1")
    assert lines(ended) == ["shine-run: interrupted; the same command goes on from here"]
    (folder,) = folders()
    assert starts(folder) == ["interrupted"]
    assert "another process of this run was interrupted, after step 7 of 12" in ended.stdout
    assert "resumed after step 7" in shine_run(*TRAIN, "problem.struck=1").out
    shine_run(*TRAIN, "problem.struck=1", "runtime.results=whole")
    whole = folder.parents[3] / "whole" / folder.relative_to(folder.parents[2])
    same, expected = (pd.read_csv(f / "trace.csv").drop(columns=CLOCKS) for f in (folder, whole))
    pd.testing.assert_frame_equal(same, expected, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_processes_end_where_one_is_killed_and_go_on_again(python, folders, rank: int) -> None:
    command = (*TORCHRUN, *SHINE_RUN, *TRAIN, f"problem.struck={rank}", "problem.signal=SIGKILL")
    assert python(*command).returncode == 1
    (folder,) = folders()
    assert starts(folder) in (["running"], ["failed"], ["interrupted"])
    again = python(*command)
    assert again.returncode == 0, again.stderr
    assert "resumed after step 6" in again.stdout
    assert starts(folder)[-1] == "done"
    assert len(pd.read_csv(folder / "trace.csv")) == 3
    done = python(*command)
    assert done.returncode == 0
    assert done.stdout.count("done already, nothing to do") == 1


@pytest.mark.slow
def test_locked_run_is_left_alone_by_all_processes(python, tmp_path: Path, folders) -> None:
    python(*SHINE_RUN, *TRAIN, "runtime.max_minutes=1e-5")
    (folder,) = folders()
    with FileLock(folder / ".lock"):
        left = python(*TORCHRUN, *SHINE_RUN, *TRAIN)
    assert left.returncode == 0, left.stderr
    assert left.stdout.count("another process is at work on this run, left to it") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "why"),
    [
        (("problem=logreg",), "can share the training of a network, and not problem=logreg"),
        (("experiment=advise",), "can share the training of a network"),
        ((*TRAIN, "outer.epoch=3"), "outer.epoch: no such option"),
        (("-m", *TRAIN, "seed=0,1"), "each of the 2 processes (WORLD_SIZE) would make the same"),
        (("problem=sudoku", "problem.batch_size=33"), "33 samples cannot be shared evenly by 2"),
    ],
)
def test_refusal_is_told_once(python, folders, command: tuple[str, ...], why: str) -> None:
    ended = python(*TORCHRUN, *SHINE_RUN, *command)
    assert ended.returncode == 1
    (line,) = lines(ended)
    assert why in line
    assert folders() == []


def test_shares_of_sudokus_have_the_weighted_loss_of_the_batch() -> None:
    task = sudoku(fewest_clues=6, batch_size=6)
    batch = task.batch(0, 0)
    shares = [task.share(batch, Processes(rank, 3)) for rank in range(3)]
    assert torch.equal(torch.cat([share.clues for share, _ in shares]), batch.clues)
    assert len({float(weight) for _, weight in shares}) > 1
    assert sum(float(weight) for _, weight in shares) == pytest.approx(1)


def test_samples_that_cannot_be_shared_evenly_are_refused() -> None:
    assert [Processes(rank, 3).rows(6) for rank in range(3)] == [
        slice(0, 2),
        slice(2, 4),
        slice(4, 6),
    ]
    for n in (0, 2, 7):
        with pytest.raises(UserError, match=f"a batch of {n} samples cannot be shared evenly by 3"):
            Processes(0, 3).rows(n)
