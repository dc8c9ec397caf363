"""What a process pays at its first computation, paid before the clock of a run starts."""

import functools
from typing import Any

import numpy as np
import torch
from torch.nn.functional import conv2d

from shine_exp.bilevel.problems.linear_model import LinearModel
from shine_exp.data.splits import Splits


def warm_up(problem: Any, solver: Any, differentiates: bool) -> None:
    """Libraries, kernels and threads for what is computed at work; `differentiates`: with
    derivatives by autograd.
    """
    if isinstance(problem, LinearModel):
        _solve(problem, solver)
    if differentiates:
        _differentiate(problem.device)


def _solve(problem: LinearModel, solver: Any) -> None:
    """A small problem of the same loss, solved and differentiated."""
    rng = np.random.default_rng(0)
    rows = (rng.standard_normal((40, 5)), np.where(np.arange(40) % 2, 1.0, -1.0))
    small = LinearModel(problem.loss, Splits(rows, rows, rows), 1, problem.device)
    alpha = torch.zeros(1, dtype=torch.float64, device=problem.device)
    theta = torch.zeros(5, dtype=torch.float64, device=problem.device)
    theta = solver(small.inner(alpha), theta, 1e-6).z
    _, r = small.outer(theta)
    small.cross(alpha, theta, small.hessian(alpha, theta)(r))


@functools.cache
def _differentiate(device: str) -> None:
    """For its first derivative PyTorch imports a symbolic algebra system; convolutions have
    kernels of their own.
    """
    image = torch.ones(1, 1, 3, 3, device=device, requires_grad=True)
    value = conv2d(image, image)
    torch.autograd.grad(value, image, torch.ones_like(value))
