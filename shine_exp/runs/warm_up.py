"""What a process pays at its first computation, paid before the clock of a run starts."""

import functools
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from shine_exp.bilevel.problem import BilevelProblem
from shine_exp.solvers.objective import Smooth


def warm_up(problem: Any, solver: Any, device: str, differentiates: bool) -> None:
    """Load libraries, kernels and threads for what is computed at work.

    `differentiates` says whether autograd is at work beside the problem's own derivatives.
    """
    if isinstance(problem, BilevelProblem):
        alpha, theta = problem.start()
        _minimise(solver, theta)
        _evaluate(problem, alpha, theta)
    if differentiates:
        _differentiate(device)


def _minimise(solver: Any, like: Tensor) -> None:
    """½ zᵀAz − Σz, z (5,), A = diag(1, …, 5), in the type and on the device of θ."""
    a = torch.arange(1, 6).to(like)
    quadratic = Smooth(lambda z: (z @ (0.5 * a * z - 1), a * z - 1))
    solver(quadratic, torch.zeros_like(a), 1e-4)


def _evaluate(problem: BilevelProblem, alpha: Tensor, theta: Tensor) -> None:
    """All that a hypergradient asks of the problem, once."""
    point = problem.inner(alpha)(theta)
    point = point.ray(-point.gradient).end(0.0)
    r = problem.outer(alpha, theta).gradient
    problem.cross(alpha, theta, problem.hessian(alpha, point)(r))


@functools.cache
def _differentiate(device: str) -> None:
    """A first derivative, for which PyTorch imports a symbolic algebra system and kernels."""
    image = torch.ones(1, 1, 3, 3, device=device, requires_grad=True)
    value = conv2d(image, image)
    torch.autograd.grad(value, image, torch.ones_like(value))
