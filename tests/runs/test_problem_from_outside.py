"""A problem that is one Python file and one YAML in the user's folder."""

import importlib
import json
import signal
import subprocess
import sys
from hashlib import sha256
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
    assert "logreg, mdeq, nls, ridge" in out


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
        "for this one take outer=adam, bayes, descent, grid, hoag, ",
    )


def info_of(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


def edit(mine: Path, old: str, new: str) -> None:
    """Change the problem's file; the next command is a new process, which imports it anew."""
    path = mine.parent / "ridge_of_test.py"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    importlib.invalidate_caches()
    sys.modules.pop("ridge_of_test", None)


def test_run_json_records_the_code_of_the_user(mine: Path, shine_run, folders) -> None:
    shine_run(*COMMAND)
    text = (mine.parent / "ridge_of_test.py").read_bytes()
    assert info_of(folders()[0])["code"] == {"ridge_of_test.py": sha256(text).hexdigest()}


def test_run_of_our_own_classes_has_no_code(shine_run, folders) -> None:
    shine_run("data=gaussian", "outer.n_steps=1")
    assert info_of(folders()[0])["code"] == {}


def test_finished_run_whose_code_changed_is_refused(mine: Path, shine_run, folders) -> None:
    shine_run(*COMMAND)
    edit(mine, "lower=-6.0", "lower=-5.0")
    says = (f"{folders()[0].relative_to(mine.parent)}: was made with other code than", "now holds")
    refused(shine_run(*COMMAND), *says, "ridge_of_test.py", "runtime.results=FOLDER")
    edit(mine, "lower=-5.0", "lower=-6.0")
    assert "done already" in shine_run(*COMMAND).out


def test_run_without_a_record_of_its_code_stays_as_it_is(mine: Path, shine_run, folders) -> None:
    shine_run(*COMMAND)
    info = info_of(folders()[0])
    del info["code"]
    (folders()[0] / "run.json").write_text(json.dumps(info))
    edit(mine, "lower=-6.0", "lower=-5.0")
    assert "done already" in shine_run(*COMMAND).out
    (folders()[0] / "run.json").write_text(json.dumps(info | {"code": 3}))
    refused(shine_run(*COMMAND), "run.json cannot be used: its record of the code")


def test_interrupted_run_does_not_go_on_under_other_code(
    mine: Path, shine_run, folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stepping(self, problem, state, inner=Descent.step):
        if state.step == 2:
            signal.raise_signal(signal.SIGTERM)
        return inner(self, problem, state)

    with monkeypatch.context() as patch:
        patch.setattr(Descent, "step", stepping)
        assert shine_run(*COMMAND).code == 130
    before = (folders()[0] / "checkpoint.pt").read_bytes()
    edit(mine, "lower=-6.0", "lower=-5.0")
    refused(shine_run(*COMMAND), "was made with other code than", "move this run's folder away")
    assert (folders()[0] / "checkpoint.pt").read_bytes() == before


def test_run_that_failed_in_its_first_step_begins_anew_with_mended_code(
    mine: Path, shine_run, folders, status
) -> None:
    edit(mine, "alpha.exp()", "alpha.expp()")
    refused(shine_run(*COMMAND), "ridge_of_test.py, line 16: ", "expp")
    edit(mine, "alpha.expp()", "alpha.exp()")
    outcome = shine_run(*COMMAND)
    assert (outcome.code, outcome.err) == (0, "")
    assert status(folders()[0]) == "done"


def test_code_that_changed_after_its_import_is_refused(mine: Path, shine_run, folders) -> None:
    shine_run(*COMMAND)
    path = mine.parent / "ridge_of_test.py"
    path.write_text(path.read_text() + "\n# changed, and not imported anew\n")
    refused(shine_run(*COMMAND, "seed=1"), "has changed since Python imported it")
    assert len(folders()) == 1


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "    return AutodiffProblem(",
            "    AutodiffProblem(",
            "returns None; end it with: return",
        ),
        (
            "    return AutodiffProblem(",
            "    return AutodiffProblem\n    f(",
            "returns the class Auto",
        ),
        ("n: int = 40)", "n: int, m: float)", "problem.m: ridge_of_test.ridge needs it and it has"),
        (
            "inner(alpha, theta)",
            "inner(alpha, theta, t)",
            "inner(alpha, theta, t) is called as inner(alpha, theta)",
        ),
        ("@ theta - y[:n]", "@ theta[1:] - y[:n]", "line 16: RuntimeError: size mismatch"),
    ],
)
def test_mistake_in_a_problem_is_one_line(
    mine: Path, shine_run, old: str, new: str, says: str
) -> None:
    edit(mine, old, new)
    refused(shine_run(*COMMAND), says)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("problem:\n  _target_: ridge_of_test.ridge\n", "problem.problem: the file of this option"),
        ("# @package _global_\n_target_: ridge_of_test.ridge\n", "has no key problem: write"),
        ("_target_: ridge_of_test\n", "is a module; name a class or function in it, such as"),
    ],
)
def test_mistake_in_the_yaml_of_a_problem_is_named(
    mine: Path, shine_run, text: str, says: str
) -> None:
    (mine / "problem" / "ridge.yaml").write_text(text)
    refused(shine_run(*COMMAND), says)


def test_parameter_that_the_yaml_leaves_out_needs_a_plus(mine: Path, shine_run) -> None:
    (mine / "problem" / "ridge.yaml").write_text("_target_: ridge_of_test.ridge\n")
    refused(shine_run(*COMMAND, "problem.n=50"), "needs a plus: +problem.n=")


def test_misspelt_option_of_a_problem_is_told_the_nearest_and_the_help(
    mine: Path, shine_run
) -> None:
    help_ = "see shine-run --config-dir=mine problem=ridge --help"
    says = "problem.nn: no such option; did you mean n? there are: n; "
    refused(shine_run(*COMMAND, "problem.nn=3"), says + help_)
