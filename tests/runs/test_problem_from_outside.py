"""A problem that is one Python file and one YAML in the user's folder."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shine_exp.bilevel.loops.descent import Descent

COMMAND = ("--config-dir=mine", "problem=ridge", "outer.n_steps=4")
METHODS = (
    *("shine", "opa", "cg", "cg_limited", "full", "full_limited", "lbfgs", "neumann", "jf"),
    *("refine", "refine_jf", "fallback", "unroll", "grid", "random", "bayes"),
)


@pytest.mark.parametrize("method", METHODS)
def test_problem_from_outside_runs_with_every_method(
    mine: Path, shine_run, folders, status, trace, method: str
) -> None:
    outcome = shine_run(*COMMAND, f"method={method}")
    assert (outcome.code, outcome.err) == (0, "")
    (folder,) = folders()
    assert folder.relative_to(mine.parent / "results").parts[:2] == ("ridge-none", method)
    assert status(folder) == "done"
    losses = trace(folder).outer_loss.astype(float)
    assert len(losses) == 5
    assert np.isfinite(losses).all()
    assert losses.iloc[-1] < losses.iloc[0]


def test_problem_from_outside_resumes_to_the_same_numbers(
    mine: Path, shine_run, folders, trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stepping(self, problem, state, inner=Descent.step):
        if state.step == 2:
            signal.raise_signal(signal.SIGTERM)
        return inner(self, problem, state)

    with monkeypatch.context() as patch:
        patch.setattr(Descent, "step", stepping)
        assert shine_run(*COMMAND).code == 130
    (folder,) = folders()
    assert "resumed after step 3" in shine_run(*COMMAND).out
    assert "done already" in shine_run(*COMMAND).out
    shine_run(*COMMAND, "runtime.results=whole")
    whole = trace(Path("whole") / folder.relative_to(mine.parent / "results"))
    pd.testing.assert_frame_equal(trace(folder).drop(columns="time"), whole.drop(columns="time"))


def test_defaults_of_a_problem_from_outside_have_no_hash(mine: Path, shine_run, folders) -> None:
    shine_run("--config-dir=mine", "problem=ridge", "method=jf", "seed=3", "problem.n=40")
    (folder,) = folders()
    assert folder.relative_to(mine.parent / "results") == Path("ridge-none/jf/seed=3")


@pytest.mark.parametrize("launcher", [[], ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]])
def test_sweep_over_a_problem_from_outside(
    mine: Path, folders, status, launcher: list[str]
) -> None:
    line = [sys.executable, "-m", "shine_exp.runs.command", "-m", *COMMAND, *launcher]
    done = subprocess.run(
        [*line, "seed=0,1"], cwd=mine.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [status(folder) for folder in folders()] == ["done", "done"]
    info = json.loads((folders()[0] / "run.json").read_text())
    assert info["differs"] == {"outer.n_steps": 4}


def test_help_names_a_problem_from_outside(mine: Path, shine_run) -> None:
    out = shine_run("--config-dir=mine", "--help").out
    assert "problem: logreg, mdeq, nls, ridge" in out


def refused(outcome, *says: str) -> None:
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert all(text in outcome.err for text in says), outcome.err


def test_data_for_a_problem_that_takes_none_is_refused(mine: Path, shine_run, folders) -> None:
    refused(
        shine_run(*COMMAND, "data=digits"),
        "problem=ridge takes no data: leave data=digits away, or take data=none",
    )
    assert folders() == []


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (") -> AutodiffProblem:", "):", "annotate the class that it returns, as in def ridge("),
        ("seed: int, n:", "data, n:", "annotate its parameter data, as in data: Dataset"),
        ("seed: int, n:", "data: int, n:", "problem=ridge needs data: no option of data would do"),
        (") -> AutodiffProblem:", ") -> int:", "makes neither a shine_exp.BilevelProblem nor a"),
    ],
)
def test_problem_without_annotations_is_told_what_to_annotate(
    mine: Path, shine_run, folders, old: str, new: str, says: str
) -> None:
    path = mine.parent / "ridge_of_test.py"
    path.write_text(path.read_text().replace(old, new))
    refused(shine_run(*COMMAND), "problem", says)
    assert folders() == []


def test_problem_without_a_method_of_the_contract_is_told_which(mine: Path, shine_run) -> None:
    path = mine.parent / "ridge_of_test.py"
    path.write_text(
        "from shine_exp import BilevelProblem\n\n"
        "class ridge(BilevelProblem):\n    def __init__(self, n: int) -> None: pass\n"
    )
    refused(shine_run(*COMMAND), "ridge_of_test.ridge: has no cross, hessian, inner,")


def test_error_in_a_problem_from_outside_is_one_line(mine: Path, shine_run) -> None:
    path = mine.parent / "ridge_of_test.py"
    path.write_text(path.read_text().replace("alpha.exp()", "alpha.expp()"))
    refused(shine_run(*COMMAND), "ridge_of_test.py, line 16: ", "expp")


def test_solver_and_loop_of_another_kind_are_refused_by_what_would_do(
    mine: Path, shine_run
) -> None:
    refused(shine_run(*COMMAND, "solver=broyden"), "take solver=bfgs, lbfgs, ")
    refused(
        shine_run("--config-dir=mine", "problem=ridge", "outer=train"),
        "for this one take outer=bayes, descent, grid, hoag, ",
    )
