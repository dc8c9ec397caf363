"""A network solved with more steps, and the gradient that it then hands on."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from shine_exp.deq.layer import DEQ
from shine_exp.inverse.full import Full
from shine_exp.solvers.broyden import Broyden
from shine_exp.training.sudoku.network import SudokuNetwork
from shine_exp.training.sudoku.puzzles import Puzzles

EXACT = 1e-6  # the tolerance of both solves, in the layer's units


@contextmanager
def with_more_steps(layer: DEQ, n_steps: int) -> Iterator[None]:
    """The layer's solver takes up to `n_steps`; one that is unrolled applies its cell so often."""
    solver, n_unrolled = layer.solver, layer.n_unrolled
    changed: Any = solver  # every root solver of ours has max_steps
    if n_unrolled is None:
        layer.solver = replace(changed, max_steps=n_steps)
    else:
        layer.n_unrolled = n_steps
    try:
        yield
    finally:
        layer.solver, layer.n_unrolled = solver, n_unrolled


def exact(network: SudokuNetwork, n_steps: int) -> SudokuNetwork:
    """A copy in float64 that solves both systems to `EXACT`, in at most `n_steps` each."""
    network = deepcopy(network).double()
    layer = network.equilibrium
    layer.solver, layer.inverse = Broyden(n_steps), Full(factor=1.0, max_steps=n_steps)
    layer.tol = layer.adjoint_tol = EXACT
    layer.n_unrolled = None
    return network


def input_gradient(network: SudokuNetwork, puzzles: Puzzles) -> tuple[Tensor, Tensor]:
    """∂L/∂x (batch, b⁴, width) of the embedded puzzles x, and for which of them it was solved."""
    criterion = puzzles.criterion()
    with torch.enable_grad():
        x = network.embed(puzzles.clues).detach().requires_grad_()
        (gradient,) = torch.autograd.grad(criterion(network.answer(x, criterion)), x)
    last = network.equilibrium.last
    solved = torch.ones(len(puzzles), dtype=torch.bool)
    if last is not None and last.backward_converged is not None:
        solved = last.converged & last.backward_converged
    return solved, gradient
