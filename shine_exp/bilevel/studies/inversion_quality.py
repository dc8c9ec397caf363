"""Inversion quality: H d against (∇²_θθG)⁻¹ d (Ramzi et al. 2022, figure 2, right)."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from shine_exp.bilevel.comparison import compare
from shine_exp.bilevel.hypergradients.exact import exact_inverse
from shine_exp.bilevel.inner_solution import solve_inner
from shine_exp.bilevel.loops.state import Study, StudyState
from shine_exp.bilevel.problem import BilevelProblem
from shine_exp.bilevel.studies.rows import with_row, with_solve
from shine_exp.loop import Row
from shine_exp.randomness import generator
from shine_exp.solvers.lbfgs import LBFGS
from shine_exp.types import Outer


@dataclass(frozen=True)
class InversionQuality(Study[StudyState]):
    """From `n_steps` random starts, minimise G at α₀ to ‖∇_θG‖ ≤ tol and apply the H that is left.

    a = H d is compared with b = (∇²_θθG)⁻¹ d, for three directions d: "prescribed" is random, and
    OPA is told of it; "krylov" is ∇²_θθG times the last step; "random" is unknown to OPA. There
    are two estimates H: "shine", and "opa" with an extra pair along H d, d the prescribed
    direction, every `opa` steps. Where a solve missed its tolerance, what follows from it is NaN.
    """

    solver: LBFGS
    n_steps: PositiveInt
    tol: PositiveFloat
    opa: PositiveInt

    def columns(self, problem: BilevelProblem) -> tuple[str, ...]:
        return (
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

    def init(self, problem: BilevelProblem, seed: int) -> StudyState:
        alpha, theta = problem.start()
        return StudyState(0, alpha, theta, tol=self.tol, seed=seed)

    def load_state_dict(self, problem: BilevelProblem, saved: dict[str, Any]) -> StudyState:
        return StudyState(**saved)

    def step(self, problem: BilevelProblem, state: StudyState) -> StudyState:
        state = replace(state, step=state.step + 1, rows=[])
        drawn = generator(state.seed, state.step)
        start, prescribed, other = (
            torch.randn(state.theta.shape, dtype=torch.float64, generator=drawn).to(state.theta)
            for _ in range(3)
        )
        state = replace(state, theta=start)
        random = {"prescribed": prescribed, "random": other}
        for name, opa in (("shine", None), ("opa", self.opa)):
            state = self._measured(problem, state, name, replace(self.solver, opa=opa), random)
        return state

    def measure(self, problem: BilevelProblem, state: StudyState) -> list[Row]:
        return list(state.rows)

    def _measured(
        self,
        problem: BilevelProblem,
        state: StudyState,
        name: str,
        solver: LBFGS,
        random: dict[str, Tensor],
    ) -> StudyState:
        """The state with a row for each direction, all from one solve."""
        start = problem.inner(state.alpha)(state.theta)
        outer = Outer(lambda theta: random["prescribed"])
        inner = solve_inner(problem, solver, state.alpha, start, state.tol, outer=outer)
        assert inner.estimate is not None
        hessian = problem.hessian(inner.alpha, inner.point)
        steps, _ = inner.estimate.pairs()
        # Without a step there is no krylov direction: the zero vector makes its row NaN.
        last = steps[-1] if len(steps) else torch.zeros_like(inner.theta)
        directions = {
            "prescribed": random["prescribed"],
            "krylov": hessian(last),
            "random": random["random"],
        }
        state = with_solve(state, inner)
        for direction, d in directions.items():
            exact = exact_inverse(hessian, d)
            missed = not exact.isfinite().all()
            state = replace(state, unsolved_backward=state.unsolved_backward + missed)
            quality = compare(inner.estimate.matvec(d), exact)
            state = with_row(state, inner, {"estimate": name, "direction": direction, **quality})
        return state
