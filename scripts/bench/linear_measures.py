"""What logreg.py and growth.py measure of a linear model: a step, a product, a pass over the data.

All times are medians of CPU time. Those of a step and of a product are the difference of a long
and a short solve, over the steps between them: that leaves out what a solve costs at its start.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from shine_exp.bilevel.problems.design_matrix import DesignMatrix
from shine_exp.bilevel.problems.linear.model import LinearModel
from shine_exp.data.dataset import Matrix
from shine_exp.inverse.conjugate_gradient import ConjugateGradient
from shine_exp.solvers.lbfgs import LBFGS
from shine_exp.types import AdjointSystem, Solution

ALPHA = torch.full((1,), -5.0, dtype=torch.float64)
FEW, MANY = 5, 25  # steps of the short and of the long solve
COPIED = 1 << 28  # bytes of an array that fits no cache


def seconds(work: Callable[[], object]) -> float:
    """The CPU time of `work`."""
    start = time.process_time()
    work()
    return time.process_time() - start


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    """The median CPU time of `work`, after one call that does not count."""
    work()
    return statistics.median(seconds(work) for _ in range(repeats))


def full_memory(problem: LinearModel, memory: int) -> Solution:
    """Where L-BFGS is after as many steps from θ₀ as its memory has room for pairs."""
    _, start = problem.start()
    return LBFGS(memory, max_steps=memory)(problem.inner(ALPHA), start, 0.0)


def seconds_per_step(problem: LinearModel, at: Solution, memory: int, repeats: int) -> float:
    """Of an accepted step of L-BFGS with a full memory.

    Raises `ValueError` where floating point sees no further progress before the long solve ends.
    """
    objective = problem.inner(ALPHA)

    def solve(n_steps: int) -> float:
        solver, estimate = LBFGS(memory, max_steps=n_steps), at.estimate.copy()
        start = time.process_time()
        made = solver(objective, at.z, 0.0, estimate=estimate).n_steps
        taken = time.process_time() - start
        if made < n_steps:
            raise ValueError(f"L-BFGS ended after {made} of {n_steps} steps")
        return taken

    few, many = (statistics.median(solve(n) for _ in range(repeats)) for n in (FEW, MANY))
    return (many - few) / (MANY - FEW)


def seconds_per_product(problem: LinearModel, at: Solution, repeats: int) -> float:
    """Of a product with ∇²_θθG in CG, and of CG's own work on it."""
    r = problem.outer(ALPHA, at.z).gradient
    system = AdjointSystem(problem.hessian(ALPHA, at.point), r, tol=0.0)
    few, many = (
        median_seconds(lambda n=n: ConjugateGradient(n)(system), repeats) for n in (FEW, MANY)
    )
    return (many - few) / (MANY - FEW)


def seconds_per_passes(x: Matrix, repeats: int) -> float:
    """Of the two passes over the data X (n, p), CSR: w = Xᵀz, then X w."""
    design, z = DesignMatrix(x), torch.ones(x.shape[0], dtype=torch.float64)

    def work() -> Tensor:
        return design.matvec(design.rmatvec(z))

    return median_seconds(work, repeats)


def bytes_of_passes(x: Matrix) -> int:
    """What the two passes must read of X (n, p): its entries, once by rows and once by columns.

    An entry is a float64 and an index of 32 bits; a row's, or column's, beginning is an index too.
    """
    n, p = x.shape
    return 2 * 12 * x.nnz + 4 * (n + p + 2)


def copy_bandwidth(repeats: int) -> float:
    """Bytes per second of a large copy; a byte read and a byte written count as two, as in STREAM
    (McCalpin 1995).
    """
    source, target = np.ones(COPIED // 8), np.zeros(COPIED // 8)
    return 2 * COPIED / median_seconds(lambda: np.copyto(target, source), repeats)
