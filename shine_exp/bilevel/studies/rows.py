"""What the studies write of a solve: a row of the trace, whose numbers are NaN where the solve was
not one.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar

from shine_exp.bilevel.inner_solution import InnerSolution
from shine_exp.bilevel.loop import StudyState
from shine_exp.types import Status

S = TypeVar("S", bound=StudyState)


def with_solve(state: S, inner: InnerSolution) -> S:
    """The state with one more solve counted."""
    missed = inner.status is not Status.CONVERGED
    return replace(state, unsolved_inner=state.unsolved_inner + missed)


def with_row(
    state: S,
    inner: InnerSolution,
    measured: Mapping[str, float | str],
    costs: Mapping[str, int] = MappingProxyType({}),
) -> S:
    """The state with one more row: what was `measured` at an inner solution, how that was reached,
    and what it cost.
    """
    solved = inner.status is Status.CONVERGED
    shown = {
        name: value if solved or isinstance(value, str) else math.nan
        for name, value in measured.items()
    }
    reached = {"tol": state.tol, "inner_residual": inner.residual}
    unsolved = {f"unsolved_{what}": n for what, n in state.unsolved.items()}
    counts = {"inner_steps": inner.n_steps, "evals": inner.n_evals, **costs}
    row = {"step": state.step, **shown, **counts, **reached, **unsolved}
    return replace(state, rows=[*state.rows, row])
