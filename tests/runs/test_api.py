"""Runs from Python, as a notebook would have them."""

import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

import shine_exp
from shine_exp.bilevel.loops.descent import Descent
from shine_exp.errors import UserError

SHORT = ("data=gaussian", "outer.n_steps=3")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    GlobalHydra.instance().clear()
    monkeypatch.chdir(tmp_path)


def test_run_from_python_gives_trace_solution_and_config(capfd) -> None:
    run = shine_exp.run("problem=logreg", "method=shine", *SHORT)
    assert capfd.readouterr() == ("", "")
    assert (run.status, run.label) == ("done", "shine (outer.n_steps=3)")
    assert isinstance(run.trace, pd.DataFrame)
    assert run.trace.step.tolist() == [0, 1, 2, 3]
    assert {"alpha", "theta"} == set(run.solution)
    assert run.config["outer"]["n_steps"] == 3
    assert GlobalHydra.instance().hydra is None


def test_run_from_python_is_the_command_s(shine_run) -> None:
    shine_run("method=cg", *SHORT)
    again = shine_exp.run("method=cg", *SHORT)
    assert [run.folder for run in shine_exp.load_runs("results")] == [again.folder]
    assert len(again.info["starts"]) == 1


def test_run_from_python_prints_when_asked(capsys) -> None:
    shine_exp.run(*SHORT, verbose=True)
    assert "done after" in capsys.readouterr().out
    shine_exp.run(*SHORT, verbose=True)
    assert "done already" in capsys.readouterr().out


def test_many_runs_are_loaded() -> None:
    for method in ("jf", "shine"):
        shine_exp.run(f"method={method}", *SHORT)
    assert [run.info["choices"]["method"] for run in shine_exp.load_runs("results")] == [
        "jf",
        "shine",
    ]


def test_problem_from_outside_runs_from_python(mine: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(mine.parent))  # where a notebook looks for modules
    for name in ("seed=0", "seed=1"):
        run = shine_exp.run("problem=ridge", name, "outer.n_steps=3", config_dir="mine")
        assert run.status == "done"
        assert run.solution["theta"].shape == (5,)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["method=foo"], "Could not find 'method/foo'; there are: bayes"),
        (["methd=shine"], "methd: no such option"),
        (["outer.n_steps=abc"], "outer.n_steps=abc: must be a valid integer"),
        (["solver=broyden"], "take solver=bfgs"),
        (["experiment=fig1"], "experiment=fig1 is a sweep"),
        (["data=libsvm", "data.path=nowhere"], "nowhere"),
        (["method=shine,cg"], "more than one value"),
    ],
)
def test_what_cannot_be_done_is_a_user_error(tmp_path: Path, overrides, says: str) -> None:
    with pytest.raises(UserError) as raised:
        shine_exp.run(*overrides)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)
    assert GlobalHydra.instance().hydra is None
    assert not (tmp_path / "results").exists()


def test_config_dir_that_is_not_there_is_a_user_error() -> None:
    with pytest.raises(UserError, match="config_dir=nowhere: no such folder"):
        shine_exp.run(config_dir="nowhere")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("-m", "for a sweep call run once for each run"),
        ("--config-dir=mine", "here it is config_dir='mine'"),
        ("--help", "run takes overrides alone, as NAME=VALUE"),
        (["problem=logreg"], r"put \* before a list of them"),
        ("problem=poisson", "one of your own is found with config_dir=FOLDER"),
        ("problem=lorgeg", "did you mean logreg"),
    ],
)
def test_what_only_the_command_takes_is_a_user_error(override: object, says: str) -> None:
    with pytest.raises(UserError, match=says):
        shine_exp.run(override)


def test_folder_of_runs_that_is_not_there_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such results folder: nothere"):
        shine_exp.load_runs("nothere")
    assert shine_exp.load_runs(tmp_path) == []


def test_interrupt_passes_through_once_all_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    def stepping(self, problem, state, inner=Descent.step):
        if state.step == 1:
            signal.raise_signal(signal.SIGINT)
        return inner(self, problem, state)

    with monkeypatch.context() as patch:
        patch.setattr(Descent, "step", stepping)
        with pytest.raises(KeyboardInterrupt):
            shine_exp.run(*SHORT)
    (run,) = shine_exp.load_runs("results")
    assert (run.status, run.trace.step.tolist()) == ("interrupted", [0, 1, 2])
    assert shine_exp.run(*SHORT).trace.step.tolist() == [0, 1, 2, 3]


def test_bug_in_a_run_is_raised_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def stepping(self, problem, state):
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr(Descent, "step", stepping)
    with pytest.raises(ZeroDivisionError, match="of ours"):
        shine_exp.run(*SHORT)


def test_threads_of_the_caller_come_back() -> None:
    torch.set_num_threads(2)
    shine_exp.run(*SHORT)
    assert torch.get_num_threads() == 2


def test_import_of_the_package_is_cheap() -> None:
    script = (
        "import sys, shine_exp; print(sorted({'torch', 'numpy', 'pandas', 'hydra', 'omegaconf'} "
        "& set(sys.modules))); from shine_exp import *; print(run.__name__, DEQ.__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["[]", "run DEQ"]


def test_every_public_name_is_there() -> None:
    for name in shine_exp.__all__:
        assert getattr(shine_exp, name) is not None
        assert name in dir(shine_exp)
    with pytest.raises(AttributeError, match="nothing"):
        _ = shine_exp.nothing
