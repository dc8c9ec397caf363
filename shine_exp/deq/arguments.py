"""What a layer is made of and called in, refused in the words of who gave it."""

import math
from numbers import Real
from typing import Any

import torch
from torch import nn
from torch.autograd import forward_ad

from shine_exp.errors import UnsupportedSolver, UnsupportedSystem, UserError

SOLVERS = "Broyden(), AdjointBroyden(), Anderson() or FixedPoint()"
INVERSES = "Shine(), Full(), JacobianFree() or another of shine_exp.inverse"


def check_parts(cell: Any, solver: Any, inverse: Any) -> None:
    """Raises `UserError` for what is no cell, solver or method, or does not go together."""
    if not isinstance(cell, nn.Module):
        raise UserError(
            f"cell={_shown(cell)}: take a torch.nn.Module that maps (z, *inputs) to the next z"
        )
    _check_object("solver", solver, SOLVERS)
    if inverse is not None:
        _check_object("inverse", inverse, INVERSES)
    names = type(inverse).__name__, type(solver).__name__
    if getattr(solver, "finds", "root") != "root":
        raise UnsupportedSolver(
            f"{names[1]} finds a minimum, and a layer needs a root: take {SOLVERS}"
        )
    if getattr(inverse, "needs_symmetry", False):
        raise UnsupportedSystem(
            f"{names[0]} needs a symmetric system, and a layer's is not: take {INVERSES}"
        )
    if getattr(inverse, "uses_estimate", False) and not solver.leaves_estimate:
        raise UnsupportedSolver(
            f"{names[0]} uses the solver's inverse estimate and {names[1]} leaves none: take "
            "Broyden or AdjointBroyden"
        )
    check_count(f"{names[1]}.opa", getattr(solver, "opa", None))


def check_count(name: str, steps: Any) -> None:
    """Raises `UserError` for what is neither None nor a number of steps, 1 or more."""
    is_count = isinstance(steps, int) and not isinstance(steps, bool) and steps >= 1
    if steps is not None and not is_count:
        raise UserError(f"{name}={steps!r}: take a number of steps, 1 or more")


def check_tolerance(name: str, tol: Any) -> None:
    """Raises `UserError` for what is no number from 0 on; with 0 a solver makes all its steps."""
    if not isinstance(tol, Real) or not 0 <= float(tol) < math.inf:
        raise UserError(f"{name}={tol!r}: take a number, 0 or more")


def check_surroundings(solver: Any) -> None:
    """Raises `UserError` under a transform or mode that the layer cannot work in."""
    if torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
        raise UserError(
            "a DEQ layer does not work under torch.func's transforms (grad, vmap, jvp, …) or "
            "forward-mode derivatives: take torch.autograd.grad or backward"
        )
    # A root solver that can do OPA makes products with Jᵀ: it differentiates the cell.
    if torch.is_inference_mode_enabled() and hasattr(solver, "opa"):
        raise UserError(
            f"{type(solver).__name__} differentiates the cell, which torch.inference_mode() "
            "forbids: take torch.no_grad(), or Broyden"
        )


def _check_object(name: str, part: Any, choices: str) -> None:
    if isinstance(part, type) or not callable(part):
        raise UserError(f"{name}={_shown(part)}: take an object such as {choices}")


def _shown(part: Any) -> str:
    return f"the class {part.__name__}" if isinstance(part, type) else repr(part)
