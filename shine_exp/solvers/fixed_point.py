"""Fixed-point (Picard) iteration for batches of root problems."""

from dataclasses import dataclass

from pydantic import NonNegativeInt, PositiveFloat
from torch import Tensor

from shine_exp.errors import UnsupportedSolver
from shine_exp.solvers.iterates import Iterates, RootFunction
from shine_exp.types import InverseEstimate, Outer, Solution


@dataclass(frozen=True)
class FixedPoint:
    """Solve g(z) = z − f(z) = 0 to ‖g(z)‖ ≤ tol for each sample of z₀ (..., d) by z ← z − β g(z).

    β = 1 is the iteration z ← f(z), β < 1 damps it. One evaluation per step. Each sample gets its
    best iterate, and no inverse estimate. Raises `UnsupportedSolver` where one is to be used.
    """

    max_steps: NonNegativeInt = 50
    mixing: PositiveFloat = 1.0

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
                "fixed-point iteration takes no inverse estimate: take broyden or adjoint_broyden"
            )
        iterates = Iterates(g, z0, tol, self.max_steps)
        while iterates.running:
            iterates.step(-self.mixing * iterates.g)
        return iterates.solution(None)
