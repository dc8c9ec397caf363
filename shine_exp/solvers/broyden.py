"""Broyden's good method for batches of root problems."""

from dataclasses import dataclass

from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from shine_exp.solvers.broyden_estimate import BroydenEstimate
from shine_exp.solvers.estimates import Identity
from shine_exp.solvers.iterates import Iterates, RootFunction
from shine_exp.types import InverseEstimate, Outer, Solution


@dataclass(frozen=True)
class Broyden:
    """Solve g(z) = 0 to ‖g(z)‖ ≤ tol for each sample of z₀ (..., d), by Broyden's update.

        z ← z − t H g(z),    H ← H + (s − H y) sᵀH / (sᵀH y),    s = Δz,  y = Δg

    (Broyden 1965; for equilibrium networks Bai et al. 2020). H starts at I, which suits g = id − f,
    or at the given estimate, which is left as it is. It holds at most `memory` secant pairs (s, y)
    and then restarts; None holds one for every step. The step length t is 1, halved up to
    `max_halvings` times per sample while ‖g‖ would not fall. Each step and each halving costs one
    evaluation of g. Each sample gets its best iterate, and the estimate that it had there, the
    pair that led to it included.
    """

    max_steps: NonNegativeInt = 50
    memory: PositiveInt | None = None
    max_halvings: NonNegativeInt = 0

    finds = "root"
    leaves_estimate = True
    uses_estimate = True

    def __call__(
        self,
        g: RootFunction,
        z0: Tensor,
        tol: float | Tensor,
        *,
        outer: Outer | None = None,
        estimate: InverseEstimate | None = None,
    ) -> Solution:
        initial = Identity() if estimate is None else estimate
        iterates = Iterates(g, z0, tol, self.max_steps)
        pairs = max(self.max_steps, 1)
        memory = pairs if self.memory is None else min(self.memory, pairs)
        h = BroydenEstimate(initial, iterates, memory)
        p = h.start(iterates)
        while iterates.running:
            t = iterates.step(p, self.max_halvings)
            p = h.update(iterates, t)
        return iterates.solution(h.at_best())
