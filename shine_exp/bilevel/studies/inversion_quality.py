"""Inversion quality: H d against the exact inverse Hessian times d (Ramzi et al.

2022, figure 2 right).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from shine_exp.bilevel.comparison import compare
from shine_exp.bilevel.loop import HyperparameterLoop, State, StudyState, start_point
from shine_exp.bilevel.problems.linear_model import LinearModel
from shine_exp.bilevel.studies.rows import with_row, with_solve
from shine_exp.inverse.conjugate_gradient import ConjugateGradient
from shine_exp.loop import Row
from shine_exp.solvers.lbfgs import LBFGS
from shine_exp.types import AdjointSystem, Outer, Status


@dataclass(frozen=True)
class InversionQuality(HyperparameterLoop):
    """From `n_steps` random starts, minimise G at α = 0 to ‖∇G‖ ≤ tol and apply the estimate H
    that is left.

    Directions d: "prescribed", a random one that OPA is told of; "krylov", ∇²G times the last
    step; "random", unknown to OPA. Estimates: "shine", and "opa" with an extra pair along H d
    every `opa` steps. a = H d, b = (∇²G)⁻¹ d. Where a solve missed its tolerance, what follows
    from it is NaN.
    """

    solver: LBFGS
    n_steps: PositiveInt
    tol: PositiveFloat
    opa: PositiveInt

    columns = (
        "estimate",
        "direction",
        "cosine",
        "norm_ratio",
        "inner_steps",
        "evals",
        "tol",
        "inner_residual",
        "unsolved_inner",
        "unsolved_backward",
    )

    def begin(self, problem: LinearModel, seed: int) -> StudyState:
        alpha, theta = start_point(problem, seed)
        return StudyState(0, alpha, theta, tol=self.tol, carry={"seed": torch.tensor(seed)})

    def restore(self, problem: LinearModel, saved: dict[str, Any]) -> StudyState:
        return StudyState(**saved)

    def advance(self, problem: LinearModel, state: State) -> StudyState:
        assert isinstance(state, StudyState)
        state = replace(state, step=state.step + 1, rows=[])
        generator = torch.Generator().manual_seed(100_000 * int(state.carry["seed"]) + state.step)
        drawn = torch.randn(3, problem.n_features, dtype=torch.float64, generator=generator)
        start, prescribed, other = drawn.to(problem.device)
        state = replace(state, theta=problem.start(start))
        aware = Outer(lambda theta: prescribed, self.opa)
        for name, awareness in (("shine", None), ("opa", aware)):
            state = self._measured(
                problem, state, name, awareness, {"prescribed": prescribed, "random": other}
            )
        return state

    def measure(self, problem: LinearModel, state: State) -> list[Row]:
        assert isinstance(state, StudyState)
        return list(state.rows)

    def _measured(
        self,
        problem: LinearModel,
        state: StudyState,
        name: str,
        awareness: Outer | None,
        drawn: dict[str, Tensor],
    ) -> StudyState:
        """The state with a row for each direction, from one solve."""
        solution = self.solver(
            problem.inner(state.alpha), state.theta, self.tol, awareness=awareness
        )
        assert solution.estimate is not None
        hessian = problem.hessian(state.alpha, solution.z)
        steps = solution.estimate.pairs()[0]  # type: ignore[attr-defined]
        last = steps[-1] if len(steps) else torch.zeros_like(solution.z)  # has no direction: NaN
        directions = {
            "prescribed": drawn["prescribed"],
            "krylov": hessian(last),
            "random": drawn["random"],
        }
        state = with_solve(state, solution)
        for direction, d in directions.items():
            exact = exact_inverse(hessian, d)
            state = replace(
                state, unsolved_backward=state.unsolved_backward + (not exact.isfinite().all())
            )
            quality = compare(solution.estimate.matvec(d), exact)
            state = with_row(state, solution, {"estimate": name, "direction": direction, **quality})
        return state


def exact_inverse(hessian: Callable[[Tensor], Tensor], d: Tensor) -> Tensor:
    """(∇²G)⁻¹ d by conjugate gradients to a relative residual of 1e-12; NaN where they did not get
    there.
    """
    adjoint = ConjugateGradient(max_steps=10_000)(AdjointSystem(hessian, d, 1e-12, symmetric=True))
    return adjoint.u if adjoint.status is Status.CONVERGED else torch.full_like(d, math.nan)
