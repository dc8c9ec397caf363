"""Classes of the user's own: found in the current folder, and refused in one line where they do
not do.
"""

import sys
from pathlib import Path

import pytest

METHOD = """
from dataclasses import dataclass

import torch

from shine_exp.types import Adjoint, Status


@dataclass(frozen=True)
class Mine:
    returns: str = "answer"

    def __call__(self, system):
        if self.returns == "raises":
            return 1 / 0
        answers = {
            "answer": lambda: Adjoint(system.r, 0, Status.MAX_STEPS),
            "nothing": lambda: None,
            "tensor": lambda: system.r,
            "list": lambda: Adjoint(system.r.tolist(), 0, Status.MAX_STEPS),
            "part": lambda: Adjoint(system.r[..., :1], 0, Status.MAX_STEPS),
            "kind": lambda: Adjoint(system.r.half(), 0, Status.MAX_STEPS),
            "product": lambda: torch.ones(3) @ torch.ones(4),
        }
        return answers[self.returns]()


def function(system):
    return Adjoint(system.r, 0, Status.MAX_STEPS)


class Problem:
    seeks = "minimum"


class Nothing:
    def __init__(self):
        pass
"""


@pytest.fixture
def refused(shine_run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The line that the command answers; module mine_of_test and folder conf are in the current
    folder.
    """
    (tmp_path / "mine_of_test.py").write_text(METHOD)
    (tmp_path / "syntax_of_test.py").write_text("x = = 3")
    (tmp_path / "error_of_test.py").write_text("\n1 / 0")
    (tmp_path / "lacks_of_test.py").write_text("import nothing_like_it")
    for group, name, text in (
        ("method", "mine", "{_target_: mine_of_test.Mine, returns: answer}"),
        ("problem", "mine", "_target_: mine_of_test.Problem"),
        ("solver", "mine", "_target_: mine_of_test.Nothing"),
    ):
        path = tmp_path / "conf" / group / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def check(*overrides: str) -> str:
        outcome = shine_run("--config-dir=conf", *overrides)
        assert (outcome.code, outcome.err.count("\n")) == (2, 1)
        return outcome.err.removeprefix("shine-run: ")

    yield check
    for name in [name for name in sys.modules if name.endswith("_of_test")]:
        del sys.modules[name]


def test_method_in_the_current_folder(refused, shine_run, folders, status) -> None:
    outcome = shine_run("--config-dir=conf", "method=mine", "outer.n_steps=3")
    assert (outcome.code, outcome.err) == (0, "")
    assert status(folders()[0]) == "done"


@pytest.mark.parametrize("returns", ["nothing", "tensor", "list", "part", "kind"])
@pytest.mark.parametrize(
    "problem", ["logreg outer.n_steps=3", "mdeq outer.epochs=1 outer.pretrain_steps=0"]
)
def test_method_that_returns_something_else(refused, problem: str, returns: str) -> None:
    line = refused("method=mine", f"method.returns={returns}", *f"problem={problem}".split())
    assert line.startswith("mine_of_test.Mine")


@pytest.mark.parametrize(
    ("returns", "error"), [("raises", "ZeroDivisionError"), ("product", "RuntimeError")]
)
def test_method_that_raises(refused, folders, status, returns: str, error: str) -> None:
    line = refused("method=mine", f"method.returns={returns}", "outer.n_steps=3")
    assert "mine_of_test.py, line " in line
    assert error in line
    assert status(folders()[0]) == "failed"


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("syntax_of_test.Mine", "SyntaxError: invalid syntax (syntax_of_test.py, line 1)"),
        ("error_of_test.Mine", "error_of_test.py, line 2: ZeroDivisionError: division by zero"),
        (
            "lacks_of_test.Mine",
            "lacks_of_test.py, line 1: ModuleNotFoundError: No module named 'nothing_like_it'",
        ),
        ("mine_of_test.Yours", "mine_of_test has no Yours"),
    ],
)
def test_module_that_cannot_be_imported(refused, target: str, says: str) -> None:
    line = refused(f"method._target_={target}")
    assert line.startswith(f"method._target_={target}: ")
    assert says in line


def test_function_as_a_method_is_told_what_a_method_is(refused, shine_run) -> None:
    command = ("method=mine", "~method.returns", "method._target_=mine_of_test.function")
    assert "name a class with __call__(self, system), or add _partial_: true" in refused(*command)
    outcome = shine_run("--config-dir=conf", *command, "+method._partial_=true", "outer.n_steps=2")
    assert (outcome.code, outcome.err) == (0, "")


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ("solver.memery=3", "solver.memery: no such option; did you mean memory? there are: mem"),
        ("metod=cg", "metod: no such option; did you mean method? there are: "),
        ("method=shin", "did you mean shine? there are: bayes"),
        ("problem=mdeq problem.augmnt=1", "see shine-run --config-dir=conf problem=mdeq --help"),
        ("outer.n_steps.x=1", "outer.n_steps.x: no such option"),
    ],
)
def test_misspelt_option_is_told_the_nearest(refused, overrides: str, says: str) -> None:
    assert says in refused(*overrides.split())


def test_method_without_an_inverse_where_the_problem_brings_the_loop(refused) -> None:
    line = refused("problem=mdeq", "method=grid", "outer=train")
    assert "outer=train, which problem=mdeq brings, needs a method with an inverse" in line
    assert "leave outer" not in line
    methods = line.rstrip().rpartition("take method=")[2].split(", ")
    assert "shine" in methods
    assert "cg" not in methods


def test_problem_that_does_not_derive_from_what_the_loop_needs(refused) -> None:
    line = refused("problem=mine")
    assert "problems that are a shine_exp.bilevel.problem.BilevelProblem" in line
    assert "for this one no option of outer would do" in line


def test_solver_without_what_a_solver_says(refused) -> None:
    lacking = "__call__, finds, leaves_estimate, uses_estimate; see shine_exp.types.Solver"
    assert f"solver._target_=mine_of_test.Nothing: has no {lacking}" in refused("solver=mine")


def test_bug_of_ours_keeps_its_traceback(shine_run, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(self, seed: int) -> None:
        raise AttributeError("of ours")

    monkeypatch.setattr(
        "shine_exp.bilevel.loops.descent.Descent.init", lambda self, problem, seed: bug(self, seed)
    )
    with pytest.raises(AttributeError, match="of ours"):
        shine_run("outer.n_steps=1")
