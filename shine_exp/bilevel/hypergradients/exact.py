"""The true hypergradient, as far as floating point goes: what the one that a method used is held
against.
"""

import math

from torch import Tensor

from shine_exp.bilevel.problems.linear_model import LinearModel
from shine_exp.inverse.conjugate_gradient import ConjugateGradient
from shine_exp.solvers.lbfgs import LBFGS
from shine_exp.types import AdjointSystem, Status

TOL = 1e-10


def true_hypergradient(problem: LinearModel, alpha: Tensor, start: Tensor, scale: float) -> Tensor:
    """∇h(α) = −∇²₁₂G v, ∇²₂₂G v = ∇F, at θ*(α): ‖∇₂G‖ ≤ 1e-10 scale by L-BFGS from `start`, v by
    CG to 1e-10.

    NaN where one of them did not get there; floating point may keep the former from its tolerance.
    """
    solution = LBFGS(max_steps=10_000)(problem.inner(alpha), start, TOL * scale)
    _, r = problem.outer(solution.z)
    system = AdjointSystem(problem.hessian(alpha, solution.z), r, TOL, symmetric=True)
    adjoint = ConjugateGradient(max_steps=10_000)(system)
    solved = (
        solution.status in (Status.CONVERGED, Status.STALLED) and adjoint.status is Status.CONVERGED
    )
    return -problem.cross(alpha, solution.z, adjoint.u) * (1.0 if solved else math.nan)
