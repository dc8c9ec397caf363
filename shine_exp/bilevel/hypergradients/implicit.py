"""Implicit differentiation of the inner solution: HOAG, and SHINE in its place."""

from dataclasses import dataclass
from typing import Literal

from pydantic import PositiveInt
from torch import Tensor

from shine_exp.bilevel.descent import DescentState, Hypergradient, Inner
from shine_exp.bilevel.problems.linear_model import LinearModel
from shine_exp.inverse.answer import answer
from shine_exp.solvers.inverse_hessian import InverseHessian
from shine_exp.solvers.objective import Objective
from shine_exp.types import (
    AdjointSystem,
    Outer,
    InverseMethod,
    InverseEstimate,
    QuasiNewton,
    Solver,
)


@dataclass(frozen=True)
class Implicit:
    """∇h(α) = −∇²₁₂G v with v from the inverse method (Pedregosa 2016, eq. 3).

    The solver is warm-started from the last θ and from the last secant pairs, each y shifted by
    (e^α − e^α′) s: exact, since the penalty is the only part of the Hessian that depends on α.

    `opa` adds outer-aware pairs every that many inner steps, or with "countdown" every T − t at
    outer step t of T (Ramzi et al. 2022, appendix C).
    """

    solver: Solver[Objective]
    inverse: InverseMethod
    opa: PositiveInt | Literal["countdown"] | None = None

    def solve(
        self, problem: LinearModel, state: DescentState, alpha: Tensor, tol: float, left: int
    ) -> Inner:
        solution = self.solver(
            problem.inner(alpha),
            state.theta,
            tol,
            awareness=self._awareness(problem, left),
            inverse=self._estimate(problem, state, alpha),
        )
        carry = {key: value for key, value in state.carry.items() if key == "adjoint"}
        if isinstance(solution.estimate, InverseHessian):
            carry["s"], carry["y"] = solution.estimate.pairs()
        value, _ = problem.outer(solution.z)
        residual = float(solution.residual)
        return Inner(
            solution.z, value, residual, solution.n_steps, solution.n_evals, solution.status, carry
        )

    def hypergradient(self, problem: LinearModel, state: DescentState) -> Hypergradient:
        _, r = problem.outer(state.theta)
        adjoint = answer(
            self.inverse,
            AdjointSystem(
                vjp=problem.hessian(state.alpha, state.theta),
                r=r,
                tol=state.eps,
                inverse=self._estimate(problem, state, state.alpha),
                start=state.carry.get("adjoint"),
                symmetric=True,
            ),
        )
        value = -problem.cross(state.alpha, state.theta, adjoint.u)
        solved = adjoint.converged is None or bool(adjoint.converged)
        # The Hessian needs Xθ once, half of a product; a method that makes no product does not ask
        # for it.
        n_products = adjoint.n_products + (adjoint.n_products > 0)
        return Hypergradient(value, n_products, solved, {"adjoint": adjoint.u})

    def _awareness(self, problem: LinearModel, left: int) -> Outer | None:
        if self.opa is None:
            return None
        every = max(1, left) if self.opa == "countdown" else self.opa
        return Outer(lambda theta: problem.outer(theta)[1], every)

    def _estimate(
        self, problem: LinearModel, state: DescentState, alpha: Tensor
    ) -> InverseEstimate | None:
        """The solver's estimate from the state's pairs, moved to alpha."""
        if "s" not in state.carry or not isinstance(self.solver, QuasiNewton):
            return None
        s, y = state.carry["s"], state.carry["y"]
        shift = problem.penalty(alpha) - problem.penalty(state.alpha)
        return self.solver.estimate(s, y + shift * s if len(s) and shift.any() else y)
