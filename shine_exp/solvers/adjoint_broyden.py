"""The adjoint Broyden method for batches of root problems, with or without OPA."""

from dataclasses import dataclass

from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from shine_exp.solvers.adjoint_broyden_estimate import AdjointBroydenEstimate
from shine_exp.solvers.estimates import Identity
from shine_exp.solvers.iterates import Iterates, RootFunction
from shine_exp.types import InverseEstimate, Outer, Solution


@dataclass(frozen=True)
class AdjointBroyden:
    """Solve g(z) = 0 to ‖g(z)‖ ≤ tol for each sample of z₀ (..., d), by the adjoint update.

        z ← z − t H g(z),    σᵀH⁻¹ = σᵀJ for σ = g at the new z

    (Schlenkrich, Griewank & Walther 2010, definition 3 C). The update costs one vector-Jacobian
    product, so g must be differentiable in z. With `opa = k`, and where the solver is told ∇F,
    every k-th step adds the update along σ = Hᵀ∇F(z), which sharpens H in the direction that
    u = Hᵀ∇F needs (Ramzi et al. 2022, section 3).

    H starts at I, which suits g = id − f, or at the given estimate, which is left as it is. It
    holds at most `memory` updates, the extra ones included, and then restarts; None holds them
    all. The step length t is 1, halved up to `max_halvings` times per sample while ‖g‖ would not
    fall. Each step and each halving costs one evaluation of g, and each vector-Jacobian product
    counts as one more. Each sample gets its best iterate, and the estimate that it had there.
    """

    max_steps: NonNegativeInt = 50
    memory: PositiveInt | None = None
    max_halvings: NonNegativeInt = 0
    opa: PositiveInt | None = None

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
        iterates = Iterates(g, z0, tol, self.max_steps, record=True)
        h = AdjointBroydenEstimate(initial, iterates, self._capacity(outer))
        while iterates.running:
            iterates.step(-h.matvec(iterates.g), self.max_halvings)
            h.update(iterates.g, iterates)
            if self.opa is not None and outer is not None and iterates.n_steps % self.opa == 0:
                h.update(h.rmatvec(iterates.at_iterates(outer.gradient)), iterates)
            h.mark_best(iterates)
        return iterates.solution(h.at_best())

    def _capacity(self, outer: Outer | None) -> int:
        extra = 0 if self.opa is None or outer is None else self.max_steps // self.opa
        updates = max(self.max_steps + extra, 1)
        return updates if self.memory is None else min(self.memory, updates)
