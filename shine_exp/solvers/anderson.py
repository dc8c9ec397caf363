"""Anderson acceleration of the fixed-point iteration for batches of root problems."""

from dataclasses import dataclass

import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from shine_exp.errors import UnsupportedSolver
from shine_exp.solvers.iterates import Iterates, RootFunction
from shine_exp.types import InverseEstimate, Outer, Solution


@dataclass(frozen=True)
class Anderson:
    """Solve g(z) = z − f(z) = 0 to ‖g(z)‖ ≤ tol for each sample of z₀ (..., d).

        z ← z − β g − (ΔZ − β ΔG)ᵀ γ,    γ = argmin ‖g − ΔGᵀγ‖² + μ Σ_i γ_i² ‖Δg_i‖²

    ΔZ and ΔG hold the last `memory` differences of the iterates and of g as rows, β is `mixing`
    and μ `regularization` (Walker & Ni 2011, eq. 2.2, type II; their residual f(z) − z is −g).
    Each step costs one evaluation of g. Each sample gets its best iterate.

    This differs from Walker & Ni:

    1. The least-squares problem is regularised, so that differences that are nearly parallel do
       no harm. The term is relative to each difference, so μ does not depend on the scale of g.
    2. It is solved by its normal equations, in a batch, and not by an updated QR factorisation.

    Raises `UnsupportedSolver` where an inverse estimate is to be used: there is none here.
    """

    max_steps: NonNegativeInt = 50
    memory: PositiveInt = 5
    mixing: PositiveFloat = 1.0
    regularization: PositiveFloat = 1e-6

    finds = "root"
    leaves_estimate = False
    uses_estimate = False

    def __call__(
        self,
        g: RootFunction,
        z0: Tensor,
        tol: float | Tensor,
        *,
        outer: Outer | None = None,
        estimate: InverseEstimate | None = None,
    ) -> Solution:
        if estimate is not None:
            raise UnsupportedSolver(
                "Anderson acceleration takes no inverse estimate: take broyden or adjoint_broyden"
            )
        iterates = Iterates(g, z0, tol, self.max_steps)
        history = _Differences(self, iterates.z)
        while iterates.running:
            z, value = iterates.z, iterates.g
            iterates.step(history.direction(value))
            history.append(iterates.z - z, iterates.g - value)
        return iterates.solution(None)


class _Differences:
    """The last differences as rows (batch, memory, d), scaled to |Δg| = 1; unused rows are 0.

    The scale makes the Tikhonov term relative to each difference, and keeps the Gram matrix away
    from underflow as g falls.
    """

    def __init__(self, settings: Anderson, z: Tensor) -> None:
        self.settings = settings
        self._next = 0
        self._dg = z.new_zeros(len(z), settings.memory, z.shape[-1])
        self._step = torch.zeros_like(self._dg)  # Δz − β Δg
        self._tikhonov = settings.regularization * torch.eye(
            settings.memory, dtype=z.dtype, device=z.device
        )

    def append(self, dz: Tensor, dg: Tensor) -> None:
        """Overwrite the oldest difference; where g did not change, with zeros."""
        length = dg.norm(dim=-1, keepdim=True)
        self._dg[:, self._next] = torch.where(length > 0, dg / length, 0.0)
        self._step[:, self._next] = torch.where(
            length > 0, (dz - self.settings.mixing * dg) / length, 0.0
        )
        self._next = (self._next + 1) % self.settings.memory

    def direction(self, g: Tensor) -> Tensor:
        """The step (batch, d) from an iterate with the given g(z)."""
        rows = self._dg.transpose(1, 2)
        gram = torch.bmm(self._dg, rows) + self._tikhonov
        # solve_ex does not check for a singular matrix, which would wait for the device.
        gamma, _ = torch.linalg.solve_ex(gram, torch.bmm(g[:, None], rows).transpose(1, 2))
        return -self.settings.mixing * g - torch.bmm(gamma.transpose(1, 2), self._step)[:, 0]
