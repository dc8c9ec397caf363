"""Implicit differentiation of θ*(α), exact as in HOAG or with a reused inverse as in SHINE."""

from dataclasses import dataclass

from torch import Tensor

from shine_exp.bilevel.hypergradients.arguments import check_methods, check_point, check_problem
from shine_exp.bilevel.hypergradients.hypergradient import Hypergradient
from shine_exp.bilevel.inner_solution import (
    InnerSolution,
    first_gradient_norm,
    outer_at,
    solve_inner,
)
from shine_exp.bilevel.problem import BilevelProblem
from shine_exp.errors import UserError
from shine_exp.inverse.answer import answer
from shine_exp.inverse.shine import Shine
from shine_exp.solvers.lbfgs import LBFGS
from shine_exp.solvers.objective import Objective
from shine_exp.types import AdjointSystem, InverseMethod, Solver, take_any_inner_product


@dataclass(frozen=True)
class Implicit:
    """∇h(α) = ∂F/∂α − ∇²_αθG u, where the inverse method solves ∇²_θθG u ≈ ∂F/∂θ for u.

    (Pedregosa 2016, eq. 3.) An iterative method may start from the u of the last hypergradient.
    """

    inverse: InverseMethod

    @property
    def any_inner_product(self) -> bool:
        return take_any_inner_product(self.inverse)

    def check(self, problem: BilevelProblem) -> None:
        """Raises `UserError` where the method needs ∂F/∂α, and F does not depend on α directly."""
        if not getattr(self.inverse, "needs_direct", False):
            return
        if problem.outer(*problem.start()).direct is None:
            raise UserError(
                f"{type(self.inverse).__name__} takes ∂F/∂α for the hypergradient, and the outer "
                f"loss of {type(problem).__name__} depends on α by θ* alone: take another method"
            )

    def __call__(
        self,
        problem: BilevelProblem,
        at: InnerSolution,
        tol: float,
        previous: Hypergradient | None = None,
    ) -> Hypergradient:
        system = AdjointSystem(
            operator=problem.hessian(at.alpha, at.point),
            r=at.outer.gradient,
            tol=tol,
            estimate=at.estimate,
            start=None if previous is None else previous.adjoint,
        )
        adjoint = answer(self.inverse, system)
        value = -problem.cross(at.alpha, at.theta, adjoint.u)
        if at.outer.direct is not None:
            value = value + at.outer.direct
        solved = adjoint.converged is None or bool(adjoint.converged)
        solved = solved and bool(value.isfinite().all())
        return Hypergradient(at.alpha, value, adjoint.n_products, solved, adjoint.u)


def hypergradient(
    problem: BilevelProblem,
    alpha: Tensor | None = None,
    theta: Tensor | None = None,
    *,
    solver: Solver[Objective] | None = None,
    inverse: InverseMethod | None = None,
    tol: float = 1e-6,
) -> tuple[Hypergradient, InnerSolution]:
    """∇h(α) of a problem of one's own, and the inner solution that it belongs to.

    α, and the θ to start from, are by default those of `problem.start()`. The solver is L-BFGS by
    default, and the inverse method SHINE. `tol` is the tolerance of both solves: relative to the
    first ‖∇_θG‖ in θ, and to ‖∂F/∂θ‖ in the adjoint system.

    Whether the two were solved to it, `status` of the inner solution and `solved` of the
    hypergradient say. Raises `UserError` for an argument that does not fit the problem.
    """
    check_problem(problem)
    solver, inverse = solver or LBFGS(), inverse or Shine()
    check_methods(solver, inverse, tol)
    if not take_any_inner_product(solver, inverse):
        problem = problem.euclidean
    Implicit(inverse).check(problem)
    alpha0, theta0 = problem.start()
    alpha = alpha0 if alpha is None else check_point("alpha", alpha, alpha0)
    theta = theta0 if theta is None else check_point("theta", theta, theta0)
    start = problem.inner(alpha)(theta)
    scale = first_gradient_norm(start)
    outer = outer_at(problem, alpha, steps_left=1)
    at = solve_inner(problem, solver, alpha, start, tol * scale, outer=outer)
    return Implicit(inverse)(problem, at, tol), at
