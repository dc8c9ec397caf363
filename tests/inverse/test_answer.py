"""What an inverse method may return."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from shine_exp.bilevel.hypergradients import implicit
from shine_exp.errors import UserError
from shine_exp.inverse.answer import answer
from shine_exp.types import Adjoint, AdjointSystem, LinearOperator, Status

SYSTEM = AdjointSystem(LinearOperator(lambda v: v), torch.ones(2, 3, dtype=torch.float64), 1e-6)


@dataclass(frozen=True)
class Returns:
    """A method that returns what it was given."""

    value: Any

    def __call__(self, system: AdjointSystem) -> Any:
        return self.value


def adjoint(u: Any) -> Adjoint:
    return Adjoint(u, 0, Status.CONVERGED)


def test_answer_is_the_adjoint_of_the_method() -> None:
    given = adjoint(SYSTEM.r)
    assert answer(Returns(given), SYSTEM) is given


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (SYSTEM.r, "returned Tensor: a method returns a shine_exp.types.Adjoint"),
        (None, "returned NoneType"),
        (adjoint([1.0]), "is no tensor, but list"),
        (
            adjoint(SYSTEM.r[0]),
            r"is \(3,\) torch.float64 on cpu, where r is \(2, 3\) torch.float64 on cpu",
        ),
        (adjoint(SYSTEM.r.float()), r"is \(2, 3\) torch.float32 on cpu, where r is"),
    ],
    ids=["tensor", "nothing", "list", "shape", "dtype"],
)
def test_answer_refuses_anything_else_by_name_of_method(value: Any, says: str) -> None:
    with pytest.raises(UserError, match=rf"test_answer\.Returns.*{says}"):
        answer(Returns(value), SYSTEM)


def test_answer_of_wrong_shape_ends_run_in_one_line(
    shine_run, status, folders, monkeypatch
) -> None:
    monkeypatch.setattr(
        implicit, "answer", lambda method, system: answer(Returns(adjoint(system.r[:2])), system)
    )
    outcome = shine_run("outer.n_steps=3")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "test_answer.Returns: the u that it returned is (2,)" in outcome.err
    assert status(folders()[0]) == "failed"
