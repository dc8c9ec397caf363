"""Inversion quality: H d against the exact inverse Hessian times d (Ramzi et al. 2022, figure 2 right)."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from shine_exp.inverse.conjugate_gradient import ConjugateGradient
from shine_exp.outer.comparison import compare
from shine_exp.outer.loop import HyperparameterLoop, State, start_point
from shine_exp.problems.linear_model import LinearModel
from shine_exp.solvers.lbfgs import LBFGS
from shine_exp.trace import Row
from shine_exp.types import AdjointSystem, Awareness


@dataclass(frozen=True)
class InversionQuality(HyperparameterLoop):
    """From `n_steps` random starts, minimise G at α = 0 to ‖∇G‖ ≤ tol and apply the estimate H that is left.

    Directions d: "prescribed", a random one that OPA is told of; "krylov", ∇²G times the last step; "random", unknown
    to OPA. Estimates: "shine", and "opa" with an extra pair along H d every `opa` steps. a = H d, b = (∇²G)⁻¹ d.
    """

    solver: LBFGS
    n_steps: PositiveInt
    tol: PositiveFloat
    opa: PositiveInt

    columns = ("estimate", "direction", "cosine", "norm_ratio", "inner_steps", "evals")

    def begin(self, problem: LinearModel, seed: int) -> State:
        alpha, theta = start_point(problem, seed)
        return State(0, alpha, theta, carry={"seed": torch.tensor(seed)})

    def restore(self, problem: LinearModel, saved: dict[str, Any]) -> State:
        return State(**saved)

    def advance(self, problem: LinearModel, state: State) -> State:
        step = state.step + 1
        generator = torch.Generator().manual_seed(100_000 * int(state.carry["seed"]) + step)
        drawn = torch.randn(3, problem.n_features, dtype=torch.float64, generator=generator)
        start, prescribed, other = drawn.to(problem.device)
        carry = {"seed": state.carry["seed"], "start": start, "prescribed": prescribed, "random": other}
        return replace(state, step=step, theta=start, carry=carry)

    def measure(self, problem: LinearModel, state: State) -> list[Row]:
        if state.step == 0:
            return []
        aware = Awareness(lambda theta: state.carry["prescribed"], self.opa)
        return [
            {"step": state.step, "estimate": name, **row}
            for name, awareness in (("shine", None), ("opa", aware))
            for row in self._estimate(problem, state, awareness)
        ]

    def _estimate(self, problem: LinearModel, state: State, awareness: Awareness | None) -> list[Row]:
        solution = self.solver(problem.inner(state.alpha), state.theta, self.tol, awareness=awareness)
        assert solution.inverse is not None
        hessian = problem.hessian(state.alpha, solution.z)
        last = solution.inverse.pairs()[0][-1]  # type: ignore[attr-defined]
        directions = {"prescribed": state.carry["prescribed"], "krylov": hessian(last), "random": state.carry["random"]}
        counts = {"inner_steps": solution.n_steps, "evals": solution.n_evals}
        return [
            {"direction": name, **compare(solution.inverse.matvec(d), exact_inverse(hessian, d)), **counts}
            for name, d in directions.items()
        ]


def exact_inverse(hessian: Any, d: Tensor) -> Tensor:
    """(∇²G)⁻¹ d by conjugate gradients to a relative residual of 1e-12."""
    return ConjugateGradient(max_steps=10_000)(AdjointSystem(hessian, d, 1e-12, symmetric=True)).u
