"""Broyden's good method for batches of root problems."""

from dataclasses import dataclass

from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from shine_exp.errors import UnsupportedSolver
from shine_exp.solvers.broyden_inverse import BroydenInverse
from shine_exp.solvers.iterates import Iterates, RootFunction
from shine_exp.solvers.linear_inverse import Identity
from shine_exp.types import Awareness, LinearInverse, Solution


@dataclass(frozen=True)
class Broyden:
    """Solve g(z) = 0 to ‖g(z)‖ ≤ tol for each sample of z₀ (..., d): z ← z − t H g(z), with H from
    Broyden's update.

    H starts at I, made for g = id − f, or at the given inverse, which is left as it is. `memory`
    secant pairs at most (None: one for every step), then a restart. t = 1, halved up to
    `max_halvings` times per sample while ‖g‖ would not fall. One evaluation of g per step and one
    per halving. Each sample gets its best iterate, and the estimate that it had there, the pair
    that led to it included (Broyden 1965; Bai et al. 2020).

    Raises `UnsupportedSolver` for outer-problem awareness.
    """

    max_steps: NonNegativeInt = 50
    memory: PositiveInt | None = None
    max_halvings: NonNegativeInt = 0

    finds = "root"
    leaves_inverse = True
    takes_awareness = False

    def __call__(
        self,
        g: RootFunction,
        z0: Tensor,
        tol: float | Tensor,
        *,
        awareness: Awareness | None = None,
        inverse: LinearInverse | None = None,
    ) -> Solution:
        if awareness is not None:
            raise UnsupportedSolver(
                "Broyden's method has no outer-problem awareness: take adjoint_broyden"
            )
        initial = Identity() if inverse is None else inverse
        iterates = Iterates(g, z0, tol, self.max_steps)
        pairs = max(self.max_steps, 1)
        memory = pairs if self.memory is None else min(self.memory, pairs)
        estimate = BroydenInverse(initial, iterates, memory)
        p = estimate.start(iterates)
        while iterates.running:
            t = iterates.step(p, self.max_halvings)
            p = estimate.learn(iterates, t)
        return iterates.solution(estimate.at_best())
