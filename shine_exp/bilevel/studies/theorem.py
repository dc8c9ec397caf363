"""Does the hypergradient converge with the inner tolerance? (Ramzi et al.

2022, theorems 2 and 3.)
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from pydantic import PositiveInt
from torch import Tensor

from shine_exp.bilevel.comparison import compare
from shine_exp.bilevel.loop import HyperparameterLoop, State, StudyState, start_point
from shine_exp.bilevel.problems.linear_model import LinearModel
from shine_exp.bilevel.studies.inversion_quality import exact_inverse
from shine_exp.bilevel.studies.rows import with_row, with_solve
from shine_exp.loop import Row
from shine_exp.solvers.lbfgs import LBFGS
from shine_exp.types import AdjointSystem, Outer, InverseMethod, Solution, Status

EXACT = 1e-11  # ‖∇₂G‖ at the θ* of the truth


@dataclass(frozen=True)
class Theorem(HyperparameterLoop):
    """At tol = 10⁻¹, 10⁻², … solve the inner problem at α = 0 from a random start and compare
    hypergradients.

    Estimates: SHINE with plain BFGS; with OPA pairs every k steps, for k in `opa`; with secant
    pairs along random directions every step, which give the steps the uniform linear independence
    that the theorem assumes; and each method in `others` after plain BFGS. The truth is the exact
    hypergradient at a θ* solved to 10⁻¹¹. Cosine and norm ratio are those of v, since one
    hyperparameter has no angle.
    """

    solver: LBFGS
    opa: list[PositiveInt]
    others: dict[str, InverseMethod]
    n_steps: PositiveInt

    columns = (
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

    def begin(self, problem: LinearModel, seed: int) -> StudyState:
        alpha, theta = start_point(problem, seed)
        exact = self.solver(problem.inner(alpha), theta, EXACT)
        v = exact_inverse(problem.hessian(alpha, exact.z), problem.outer(exact.z)[1])
        solved = exact.status in (
            Status.CONVERGED,
            Status.STALLED,
        )  # rounding may keep it from 1e-11
        truth = -problem.cross(alpha, exact.z, v) * (1.0 if solved else math.nan)
        return StudyState(
            0, alpha, theta, carry={"v": v, "truth": truth, "seed": torch.tensor(seed)}
        )

    def restore(self, problem: LinearModel, saved: dict[str, Any]) -> StudyState:
        return StudyState(**saved)

    def advance(self, problem: LinearModel, state: State) -> StudyState:
        assert isinstance(state, StudyState)
        step = state.step + 1
        state = replace(state, step=step, tol=10.0**-step, rows=[])
        state, plain = self._solve(problem, state, None)
        state = self._row(problem, state, "shine", plain, self._shine(problem, plain), 0)
        for every in self.opa:
            aware = Outer(lambda theta: problem.outer(theta)[1], every)
            state = self._shine_with(problem, state, f"opa every {every}", aware)
        state = self._shine_with(problem, state, "random directions", self._random(state))
        for name, method in self.others.items():
            adjoint = method(self._system(problem, state, plain))
            missed = adjoint.converged is not None and not bool(adjoint.converged)
            state = replace(state, unsolved_backward=state.unsolved_backward + missed)
            state = self._row(problem, state, name, plain, adjoint.u, adjoint.n_products)
        return state

    def measure(self, problem: LinearModel, state: State) -> list[Row]:
        assert isinstance(state, StudyState)
        return list(state.rows)

    def _shine_with(
        self, problem: LinearModel, state: StudyState, name: str, awareness: Outer
    ) -> StudyState:
        """The state with the row of SHINE after a solve of its own."""
        state, solution = self._solve(problem, state, awareness)
        return self._row(problem, state, name, solution, self._shine(problem, solution), 0)

    @staticmethod
    def _random(state: StudyState) -> Outer:
        generator = torch.Generator().manual_seed(int(state.carry["seed"]))
        return Outer(
            lambda theta: torch.randn(theta.shape, dtype=theta.dtype, generator=generator).to(
                theta
            ),
            1,
        )

    def _solve(
        self, problem: LinearModel, state: StudyState, awareness: Outer | None
    ) -> tuple[StudyState, Solution]:
        solution = self.solver(
            problem.inner(state.alpha), state.theta, state.tol, awareness=awareness
        )
        return with_solve(state, solution), solution

    @staticmethod
    def _shine(problem: LinearModel, solution: Solution) -> Tensor:
        assert solution.estimate is not None
        return solution.estimate.rmatvec(problem.outer(solution.z)[1])

    @staticmethod
    def _system(problem: LinearModel, state: State, solution: Solution) -> AdjointSystem:
        r = problem.outer(solution.z)[1]
        hessian = problem.hessian(state.alpha, solution.z)
        return AdjointSystem(hessian, r, min(state.tol, 0.1), solution.estimate, symmetric=True)

    @staticmethod
    def _row(
        problem: LinearModel,
        state: StudyState,
        name: str,
        solution: Solution,
        u: Tensor,
        n_products: int,
    ) -> StudyState:
        truth = state.carry["truth"]
        error = (-problem.cross(state.alpha, solution.z, u) - truth).norm() / truth.norm()
        measured: dict[str, float | str] = {
            "estimate": name,
            "relative_error": float(error),
            **compare(u, state.carry["v"]),
        }
        return with_row(state, solution, measured, {"products": n_products})
