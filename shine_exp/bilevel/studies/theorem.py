"""Does the hypergradient converge with the inner tolerance (Ramzi et al. 2022, theorems 2, 3)?"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from pydantic import PositiveInt
from torch import Tensor

from shine_exp.bilevel.comparison import compare
from shine_exp.bilevel.hypergradients.exact import exact_hypergradient
from shine_exp.bilevel.hypergradients.hypergradient import Hypergradient
from shine_exp.bilevel.hypergradients.implicit import Implicit
from shine_exp.bilevel.inner_solution import InnerSolution, outer_at, solve_inner
from shine_exp.bilevel.loops.state import Study, StudyState
from shine_exp.bilevel.problem import BilevelProblem
from shine_exp.bilevel.studies.rows import with_row, with_solve
from shine_exp.inverse.shine import Shine
from shine_exp.loop import Row
from shine_exp.randomness import generator
from shine_exp.solvers.lbfgs import LBFGS
from shine_exp.types import InverseMethod, Outer

NOTHING = torch.empty(0)
EXACT_TOL = 1e-11  # absolute ‖∇_θG‖ at the θ* of the exact hypergradient


@dataclass(frozen=True)
class TheoremState(StudyState):
    """A study's state with the exact hypergradient (k,) and its adjoint u (d,)."""

    exact: Tensor = NOTHING
    exact_adjoint: Tensor = NOTHING


@dataclass(frozen=True)
class Theorem(Study[TheoremState]):
    """Solve the inner problem at α₀ to tol = 10⁻¹, 10⁻², … and compare hypergradients.

    Each solve starts from the same random θ₀. The hypergradient is SHINE's after plain BFGS; after
    BFGS with an OPA pair every k steps, for each k in `opa`; and after BFGS with a pair along a
    random direction in every step, which gives the steps the uniform linear independence that the
    theorem assumes. To these come the methods in `others`, after plain BFGS.

    The relative error is that of the hypergradient. Cosine and norm ratio are those of the adjoint
    u, since with a single hyperparameter the hypergradient has no angle.
    """

    solver: LBFGS
    opa: list[PositiveInt]
    others: dict[str, InverseMethod]
    n_steps: PositiveInt

    def columns(self, problem: BilevelProblem) -> tuple[str, ...]:
        return (
            "tol",
            "estimate",
            "relative_error",
            "cosine",
            "norm_ratio",
            "inner_steps",
            "evals",
            "products",
            "inner_residual",
            "unsolved_inner",
            "unsolved_backward",
        )

    def init(self, problem: BilevelProblem, seed: int) -> TheoremState:
        alpha, theta = problem.start()
        exact = exact_hypergradient(problem, alpha, problem.inner(alpha)(theta), EXACT_TOL)
        assert exact.adjoint is not None
        adjoint = exact.adjoint
        return TheoremState(0, alpha, theta, seed=seed, exact=exact.value, exact_adjoint=adjoint)

    def load_state_dict(self, problem: BilevelProblem, saved: dict[str, Any]) -> TheoremState:
        return TheoremState(**saved)

    def step(self, problem: BilevelProblem, state: TheoremState) -> TheoremState:
        step = state.step + 1
        state = replace(state, step=step, tol=10.0**-step, rows=[])
        for name, solver, outer in self._solves(problem, state):
            inner = self._solve(problem, state, solver, outer)
            state = with_solve(state, inner)
            shine = Implicit(Shine())(problem, inner, state.tol)
            state = _with_row(state, name, inner, shine)
            if name == "shine":
                plain = inner
        for name, method in self.others.items():
            found = Implicit(method)(problem, plain, min(state.tol, 0.1))
            missed = state.unsolved_backward + (not found.solved)
            state = _with_row(replace(state, unsolved_backward=missed), name, plain, found)
        return state

    def measure(self, problem: BilevelProblem, state: TheoremState) -> list[Row]:
        return list(state.rows)

    def _solves(
        self, problem: BilevelProblem, state: TheoremState
    ) -> Iterator[tuple[str, LBFGS, Outer]]:
        """The name of each estimate, its solver, and what that is told."""
        outer = outer_at(problem, state.alpha, steps_left=1)
        yield "shine", replace(self.solver, opa=None), outer
        for every in self.opa:
            yield f"opa every {every}", replace(self.solver, opa=every), outer
        drawn = generator(state.seed)

        def random(theta: Tensor) -> Tensor:
            return torch.randn(theta.shape, dtype=theta.dtype, generator=drawn).to(theta)

        yield "random directions", replace(self.solver, opa=1), Outer(random)

    @staticmethod
    def _solve(
        problem: BilevelProblem, state: TheoremState, solver: LBFGS, outer: Outer
    ) -> InnerSolution:
        start = problem.inner(state.alpha)(state.theta)
        return solve_inner(problem, solver, state.alpha, start, state.tol, outer=outer)


def _with_row(
    state: TheoremState, name: str, inner: InnerSolution, found: Hypergradient
) -> TheoremState:
    """The state with the row of one estimate."""
    assert found.adjoint is not None
    error = (found.value - state.exact).norm() / state.exact.norm()
    measured: dict[str, float | str] = {
        "estimate": name,
        "relative_error": float(error),
        **compare(found.adjoint, state.exact_adjoint),
    }
    return with_row(state, inner, measured, {"products": found.n_products})
