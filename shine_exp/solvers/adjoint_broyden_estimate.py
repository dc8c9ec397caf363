"""The inverse estimate of the adjoint Broyden method, as a low-rank change of H₀."""

import torch
from torch import Tensor

from shine_exp.solvers.factor_count import FactorCount
from shine_exp.solvers.iterates import Iterates
from shine_exp.types import InverseEstimate


class AdjointBroydenEstimate:
    """H ≈ J⁻¹ from adjoint updates, which use the true Jacobian J along one direction σ each.

        H⁻¹ ← H⁻¹ + σ(σᵀJ − σᵀH⁻¹) / σᵀσ

    With σ̂ = σ / |σ| and q = Hᵀ(Jᵀσ̂), the Sherman–Morrison formula turns this into

        H ← H + a bᵀ,    a = −H σ̂ / (qᵀσ̂),    b = q − σ̂

    so that σᵀJ H = σᵀ, the adjoint secant equation. The a and b of all updates are the rows of A
    and B (batch, memory, d), and H = H₀ + AᵀB takes two passes over memory to apply. Where the
    memory is full, running samples restart from H₀ and make the update to that.
    """

    def __init__(self, initial: InverseEstimate, iterates: Iterates, memory: int) -> None:
        z = iterates.z
        self.initial = initial
        self._factors = FactorCount(len(z), memory, z.device)
        self._left = z.new_zeros(len(z), memory, z.shape[-1])
        self._right = torch.zeros_like(self._left)

    @property
    def count(self) -> Tensor:
        """The number of updates in the H of each sample, (batch,)."""
        return self._factors.count

    def matvec(self, v: Tensor) -> Tensor:
        """H v, (..., d) → (..., d)."""
        return self.initial.matvec(v) + self._low_rank(v, self._right, self._left)

    def rmatvec(self, v: Tensor) -> Tensor:
        """Hᵀ v, (..., d) → (..., d)."""
        return self.initial.rmatvec(v) + self._low_rank(v, self._left, self._right)

    def update(self, sigma: Tensor, iterates: Iterates) -> None:
        """Update the moved samples along σ (batch, d), with J at the current iterates.

        Costs one vector-Jacobian product.
        """
        if self._factors.full:
            self._factors.restart(iterates.active)
        updated = self._factors.in_cycle(iterates.moved)
        sigma = torch.nn.functional.normalize(sigma, dim=-1, eps=torch.finfo(sigma.dtype).tiny)
        q = self.rmatvec(iterates.vjp(sigma))
        pivot = (q * sigma).sum(-1, keepdim=True)
        # Where |qᵀσ̂| ≤ √ε |q| the update would make H singular to working precision: H is kept, and
        # the row is 0.
        regular = pivot.abs() > torch.finfo(q.dtype).eps ** 0.5 * q.norm(dim=-1, keepdim=True)
        for rows, new in ((self._left, -self.matvec(sigma) / pivot), (self._right, q - sigma)):
            row = rows[:, self._factors.next]  # a view: copy_ writes into the memory
            row.copy_(torch.where(updated[:, None], torch.where(regular, new, 0.0), row))
        self._factors.add(updated)

    def mark_best(self, iterates: Iterates) -> None:
        """The improved samples are at their best iterate so far."""
        self._factors.mark_best(iterates.improved)

    def at_best(self) -> "AdjointBroydenEstimate":
        """The estimate as it was at the best iterate of each sample: later updates are dropped."""
        self._factors.roll_back()
        return self

    def _low_rank(self, v: Tensor, along: Tensor, out: Tensor) -> Tensor:
        """outᵀ(along · v), from the valid rows of both."""
        n = self._factors.extent
        x = v.reshape(len(along), 1, -1)
        weights = torch.bmm(x, along[:, :n].transpose(1, 2))
        weights = torch.where(self._factors.valid()[:, None], weights, 0.0)
        return torch.bmm(weights, out[:, :n]).reshape(v.shape)
