"""The adjoint Broyden method for batches of root problems, with outer-problem awareness."""

from dataclasses import dataclass

from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from shine_exp.solvers.adjoint_broyden_inverse import AdjointBroydenInverse
from shine_exp.solvers.iterates import Iterates, RootFunction
from shine_exp.solvers.linear_inverse import Identity
from shine_exp.types import Awareness, LinearInverse, Solution


@dataclass(frozen=True)
class AdjointBroyden:
    """Solve g(z) = 0 to ‖g(z)‖ ≤ tol for each sample of z₀ (..., d): z ← z − t H g(z), H from the
    adjoint update.

    After every step σᵀH⁻¹ = σᵀJ for the new residual σ = g(z) (Schlenkrich, Griewank & Walther
    2010, definition 3 C), by one vector-Jacobian product, so g must be differentiable in z. With
    awareness every k-th step adds the update along σ = Hᵀ direction(z), the one that u = Hᵀ
    direction needs (Ramzi et al. 2022, section 3, "OPA").

    H starts at I, made for g = id − f, or at the given inverse, which is left as it is. `memory`
    updates at most, the extra ones included (None: all of them), then a restart. t = 1, halved up
    to `max_halvings` times per sample while ‖g‖ would not fall. One evaluation of g per step and
    per halving; each vector-Jacobian product counts as one more. Each sample gets its best
    iterate, and the estimate that it had there.
    """

    max_steps: NonNegativeInt = 50
    memory: PositiveInt | None = None
    max_halvings: NonNegativeInt = 0

    finds = "root"
    leaves_inverse = True
    takes_awareness = True

    def __call__(
        self,
        g: RootFunction,
        z0: Tensor,
        tol: float | Tensor,
        *,
        awareness: Awareness | None = None,
        inverse: LinearInverse | None = None,
    ) -> Solution:
        initial = Identity() if inverse is None else inverse
        iterates = Iterates(g, z0, tol, self.max_steps, record=True)
        estimate = AdjointBroydenInverse(initial, iterates, self._capacity(awareness))
        while iterates.running:
            iterates.step(-estimate.matvec(iterates.g), self.max_halvings)
            estimate.learn(iterates.g, iterates)
            if awareness is not None and iterates.n_steps % awareness.every == 0:
                estimate.learn(
                    estimate.rmatvec(iterates.at_iterates(awareness.direction)), iterates
                )
            estimate.mark_best(iterates)
        return iterates.solution(estimate.at_best())

    def _capacity(self, awareness: Awareness | None) -> int:
        extra = 0 if awareness is None else self.max_steps // awareness.every
        updates = max(self.max_steps + extra, 1)
        return updates if self.memory is None else min(self.memory, updates)
