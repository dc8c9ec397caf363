"""An error that has passed through a user's file is one line with its place there."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from shine_exp.errors import did_you_mean, no_such_option, of_the_users

CELL = """
import torch


class Cell(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)

    def forward(self, z):
        return self.linear(z)


def calls_wrongly():
    Cell().forward(1, 2, 3)


def wraps():
    try:
        1 / 0
    except ZeroDivisionError as error:
        raise KeyError("of a library") from error


def call(function):
    return function()


one, two = lambda: 1, lambda: 2
"""


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    (tmp_path / "cell_of_test.py").write_text(CELL)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("cell_of_test")
    del sys.modules["cell_of_test"]


def line_of(user: ModuleType, function, *arguments: object) -> str | None:
    with pytest.raises(Exception) as raised:  # noqa: PT011 - whatever the user's code raises
        function(*arguments)
    return of_the_users(raised.value, {str(user.__file__)})


def test_error_of_pytorch_below_a_user_s_line_is_that_line_s(user: ModuleType) -> None:
    line = line_of(user, user.Cell(), torch.ones(1, 4))
    assert str(line).startswith(f"{user.__file__}, line 11: RuntimeError: mat1 and mat2 shapes")


def test_call_that_does_not_fit_a_user_s_function_is_its_definition_s(user: ModuleType) -> None:
    line = line_of(user, user.Cell(), torch.ones(1, 3), torch.ones(1, 3))
    assert str(line).startswith(f"{user.__file__}, line 10: TypeError: Cell.forward() takes 2")


def test_wrong_call_by_the_user_is_the_calling_line_s(user: ModuleType) -> None:
    assert str(line_of(user, user.calls_wrongly)).startswith(f"{user.__file__}, line 15: TypeErr")


def test_first_cause_in_a_user_s_file_is_what_is_told(user: ModuleType) -> None:
    assert line_of(user, user.wraps) == (
        f"{user.__file__}, line 20: ZeroDivisionError: division by zero"
    )


def test_error_that_passes_through_a_user_s_file_is_one_of_its_lines(user: ModuleType) -> None:
    def below() -> None:
        raise AttributeError("below")

    assert line_of(user, user.call, below) == f"{user.__file__}, line 26: AttributeError: below"


def test_error_without_a_user_s_file_has_no_line(user: ModuleType) -> None:
    assert line_of(user, lambda: 1 / 0) is None
    assert line_of(user, user.one, 3) is None, "which lambda of the file, nobody can say"


def test_nearest_name_is_offered_where_there_is_one() -> None:
    assert did_you_mean("memery", ["max_steps", "memory"]) == " did you mean memory?"
    assert did_you_mean("xyz", ["max_steps", "memory"]) == ""
    assert no_such_option("a.b", "b", []) == "a.b: no such option; there is none"
