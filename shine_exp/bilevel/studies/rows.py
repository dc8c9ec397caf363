"""What the studies write of a solve: a row of the trace, whose numbers are NaN where the solve was
not one.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from shine_exp.bilevel.loop import StudyState
from shine_exp.types import Solution, Status


def with_solve(state: StudyState, solution: Solution) -> StudyState:
    """The state with one more solve counted."""
    missed = solution.status is not Status.CONVERGED
    return replace(state, unsolved_inner=state.unsolved_inner + missed)


def with_row(
    state: StudyState,
    solution: Solution,
    measured: Mapping[str, float | str],
    costs: Mapping[str, int] = MappingProxyType({}),
) -> StudyState:
    """The state with one more row: what was `measured` at a solution, how that was reached, and
    what it cost.
    """
    solved = solution.status is Status.CONVERGED
    shown = {
        name: value if solved or isinstance(value, str) else math.nan
        for name, value in measured.items()
    }
    reached = {"tol": state.tol, "inner_residual": float(solution.residual)}
    unsolved = {f"unsolved_{what}": n for what, n in state.unsolved.items()}
    counts = {"inner_steps": solution.n_steps, "evals": solution.n_evals, **costs}
    return replace(
        state, rows=[*state.rows, {"step": state.step, **shown, **counts, **reached, **unsolved}]
    )
