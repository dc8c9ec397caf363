"""The rows that the studies write to the trace; a solve that failed shows NaN, not numbers."""

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar

from shine_exp.bilevel.inner_solution import InnerSolution
from shine_exp.bilevel.loops.state import StudyState
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
    """The state with one more row of what was `measured` at an inner solution.

    The row also holds the tolerance, the residual and the costs of that solution.
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
