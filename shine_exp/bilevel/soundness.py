"""Whether what a user has written is a bi-level problem, in the words of who wrote it."""

from collections.abc import Collection, Mapping
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from shine_exp.bilevel.problem import BilevelProblem
from shine_exp.errors import UserError

SHOWN = 4  # entries of a long α


def check_start(problem: BilevelProblem) -> None:
    """Raises `UserError` where the box of α is empty, or α₀ lies outside it."""
    name = type(problem).__name__
    alpha, _ = problem.start()
    lower, upper = box(problem, alpha)
    flat = alpha.flatten()
    if not (lower <= upper).all():
        raise UserError(
            f"{name}: lower={problem.lower} is not below upper={problem.upper}: exchange them"
        )
    if not ((lower <= flat) & (flat <= upper)).all():
        raise UserError(
            f"{name}: it starts at α = {shown(alpha)}, outside of lower={problem.lower} and "
            f"upper={problem.upper}: start between them, or give other bounds"
        )


def check_columns(problem: BilevelProblem, taken: Collection[str]) -> None:
    """Raises `UserError` where `evaluate` gives no columns of a trace, or some of those `taken`."""
    measured(problem, *problem.start())
    if clash := set(taken) & set(problem.columns):
        raise UserError(
            f"{type(problem).__name__}.evaluate: {', '.join(sorted(clash))} is a column of the "
            "loop itself; take another name"
        )


def measured(problem: BilevelProblem, alpha: Tensor, theta: Tensor) -> dict[str, float]:
    """`problem.evaluate(alpha, theta)`: the problem's columns, each a number.

    Raises `UserError` where it gives anything else.
    """
    row: object = problem.evaluate(alpha, theta)  # not yet known to be what it is declared to be
    name = type(problem).__name__
    if not isinstance(row, Mapping):
        raise UserError(
            f"{name}.evaluate returned {kind(row)}: it returns a dict of numbers by column, as in "
            '{"outer_loss": 0.5}'
        )
    for column, value in row.items():
        if not isinstance(column, str):
            raise UserError(f"{name}.evaluate: a column is called {column!r}: take a string")
        if not isinstance(value, Real):
            raise UserError(
                f"{name}.evaluate: {column} is {kind(value)}, where the trace takes a number; "
                "float(…) makes one"
            )
    columns = problem.columns
    if isinstance(columns, str) or set(row) != set(columns):
        expected = columns if isinstance(columns, str) else ", ".join(columns)
        raise UserError(
            f"{name}.evaluate returned the columns {', '.join(row)}, and its columns are "
            f"{expected or 'none'}: they must be the same at every α"
        )
    return dict(row)


def box(problem: BilevelProblem, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """The lower and the upper bounds of the entries of α, each (k,).

    Raises `UserError` where they do not fit the shape of α.
    """
    return _bound(problem, "lower", alpha), _bound(problem, "upper", alpha)


def _bound(problem: BilevelProblem, name: str, alpha: Tensor) -> Tensor:
    bound: Any = getattr(problem, name)
    try:
        return torch.as_tensor(bound).to(alpha).expand(alpha.shape).flatten()
    except (RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"{type(problem).__name__}: {name}={bound!r} is neither a number nor a tensor of the "
            f"shape {tuple(alpha.shape)} of α"
        ) from error


def shown(alpha: Tensor) -> str:
    """α for a message: a number, or its first entries."""
    entries = [f"{entry:.4g}" for entry in alpha.flatten()[:SHOWN].tolist()]
    rest = [", …"] if alpha.numel() > SHOWN else []
    return entries[0] if alpha.numel() == 1 else f"({', '.join(entries)}{''.join(rest)})"


def kind(value: object) -> str:
    """What a value is, for a message: "a list", "a Tensor", "None"."""
    return "None" if value is None else f"a {type(value).__name__}"
