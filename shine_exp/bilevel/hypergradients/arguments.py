"""What `hypergradient` is called with, refused in the words of who gave it."""

import math
from numbers import Real
from typing import Any

from torch import Tensor

from shine_exp.bilevel.problem import BilevelProblem
from shine_exp.errors import UnsupportedSolver, UserError

SOLVERS = "LBFGS() or ScipyMinimizer('L-BFGS-B')"
INVERSES = "Shine(), ConjugateGradient() or another of shine_exp.inverse"


def check_problem(problem: Any) -> None:
    """Raises `UserError` for what is no problem, or has no hypergradient."""
    if not isinstance(problem, BilevelProblem):
        raise UserError(
            f"problem={_shown(problem)}: take a shine_exp.BilevelProblem; "
            "AutodiffProblem(G, F, α₀, θ₀) makes one of two functions"
        )
    problem.check()


def check_methods(solver: Any, inverse: Any, tol: Any) -> None:
    """Raises `UserError` for what is no solver, inverse method or tolerance."""
    _check_object("solver", solver, SOLVERS)
    _check_object("inverse", inverse, INVERSES)
    if getattr(solver, "finds", "minimum") != "minimum":
        raise UnsupportedSolver(
            f"{type(solver).__name__} finds a root, and the inner problem is a minimisation: take "
            f"{SOLVERS}"
        )
    if isinstance(tol, bool) or not isinstance(tol, Real) or not 0 < float(tol) < math.inf:
        raise UserError(f"tol={tol!r}: take a number above 0")


def check_point(name: str, given: Any, like: Tensor) -> Tensor:
    """α or θ as it was given, detached.

    Raises `UserError` unless it is finite and of the shape, dtype and device of the start.
    """
    needed = f"the problem starts at {_layout(like)}"
    if not isinstance(given, Tensor):
        raise UserError(
            f"{name}={_shown(given)} is no tensor, and {needed}: give one such, as by "
            f"torch.tensor({_example(like)}, dtype={like.dtype})"
        )
    if (given.shape, given.dtype, given.device) != (like.shape, like.dtype, like.device):
        raise UserError(f"{name} is {_layout(given)}, and {needed}: give one such")
    if not given.isfinite().all():
        raise UserError(f"{name} has entries that are not finite numbers")
    return given.detach()


def _check_object(name: str, part: Any, choices: str) -> None:
    if isinstance(part, type) or not callable(part):
        raise UserError(f"{name}={_shown(part)}: take an object such as {choices}")


def _layout(tensor: Tensor) -> str:
    return f"a tensor of shape {tuple(tensor.shape)}, {tensor.dtype}, on {tensor.device}"


def _example(like: Tensor) -> str:
    """Zeros of up to one axis, as one types them."""
    return "0.0" if like.ndim == 0 else "[0.0, …]"


def _shown(part: Any) -> str:
    """A value in a message, on one line."""
    if isinstance(part, type):
        return f"the class {part.__name__}"
    if hasattr(part, "__qualname__"):
        return f"the function {part.__name__}"
    return " ".join(repr(part).split())
