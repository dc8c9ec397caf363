"""Does the hypergradient converge with the inner tolerance? (Ramzi et al. 2022, theorems 2 and 3.)"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from pydantic import PositiveInt
from torch import Tensor

from shine_exp.outer.comparison import compare
from shine_exp.outer.loop import HyperparameterLoop, State, start_point
from shine_exp.problems.linear_model import LinearModel
from shine_exp.solvers.lbfgs import LBFGS
from shine_exp.studies.inversion_quality import exact_inverse
from shine_exp.trace import Row
from shine_exp.types import AdjointSystem, Awareness, InverseMethod, Solution


@dataclass(frozen=True)
class Theorem(HyperparameterLoop):
    """At tol = 10⁻¹, 10⁻², … solve the inner problem at α = 0 from a random start and compare hypergradients.

    Estimates: SHINE with plain BFGS; with OPA pairs every k steps, for k in `opa`; with secant pairs along random
    directions every step, which give the steps the uniform linear independence that the theorem assumes; and each
    method in `others` after plain BFGS. The truth is the exact hypergradient at a θ* solved to 10⁻¹¹. Cosine and norm
    ratio are those of v, since one hyperparameter has no angle.
    """

    solver: LBFGS
    opa: list[PositiveInt]
    others: dict[str, InverseMethod]
    n_steps: PositiveInt

    columns = ("tol", "estimate", "relative_error", "cosine", "norm_ratio", "inner_steps", "evals", "products")

    def begin(self, problem: LinearModel, seed: int) -> State:
        alpha, theta = start_point(problem, seed)
        exact = self.solver(problem.inner(alpha), theta, 1e-11).z
        v = exact_inverse(problem.hessian(alpha, exact), problem.outer(exact)[1])
        truth = -problem.cross(alpha, exact, v)
        return State(0, alpha, theta, carry={"v": v, "truth": truth, "seed": torch.tensor(seed)})

    def restore(self, problem: LinearModel, saved: dict[str, Any]) -> State:
        return State(**saved)

    def advance(self, problem: LinearModel, state: State) -> State:
        return replace(state, step=state.step + 1, tol=10.0 ** -(state.step + 1))

    def measure(self, problem: LinearModel, state: State) -> list[Row]:
        if state.step == 0:
            return []
        plain = self._solve(problem, state, None)
        rows = [self._row(problem, state, "shine", plain, *self._shine(problem, plain))]
        for every in self.opa:
            solution = self._solve(problem, state, Awareness(lambda theta: problem.outer(theta)[1], every))
            rows.append(self._row(problem, state, f"opa every {every}", solution, *self._shine(problem, solution)))
        generator = torch.Generator().manual_seed(int(state.carry["seed"]))
        random = Awareness(lambda theta: torch.randn(theta.shape, dtype=theta.dtype, generator=generator).to(theta), 1)
        solution = self._solve(problem, state, random)
        rows.append(self._row(problem, state, "random directions", solution, *self._shine(problem, solution)))
        for name, method in self.others.items():
            adjoint = method(self._system(problem, state, plain))
            rows.append(self._row(problem, state, name, plain, adjoint.u, adjoint.n_products))
        return rows

    def _solve(self, problem: LinearModel, state: State, awareness: Awareness | None) -> Solution:
        return self.solver(problem.inner(state.alpha), state.theta, state.tol, awareness=awareness)

    @staticmethod
    def _shine(problem: LinearModel, solution: Solution) -> tuple[Tensor, int]:
        assert solution.inverse is not None
        return solution.inverse.rmatvec(problem.outer(solution.z)[1]), 0

    @staticmethod
    def _system(problem: LinearModel, state: State, solution: Solution) -> AdjointSystem:
        r = problem.outer(solution.z)[1]
        hessian = problem.hessian(state.alpha, solution.z)
        return AdjointSystem(hessian, r, min(state.tol, 0.1), solution.inverse, symmetric=True)

    @staticmethod
    def _row(problem: LinearModel, state: State, name: str, solution: Solution, v: Tensor, n_products: int) -> Row:
        truth = state.carry["truth"]
        error = (-problem.cross(state.alpha, solution.z, v) - truth).norm() / truth.norm()
        return {
            "step": state.step,
            "tol": state.tol,
            "estimate": name,
            "relative_error": float(error),
            **compare(v, state.carry["v"]),
            "inner_steps": solution.n_steps,
            "evals": solution.n_evals,
            "products": n_products,
        }
