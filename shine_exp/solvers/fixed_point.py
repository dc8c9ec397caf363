"""Fixed-point (Picard) iteration for batches of root problems."""

from dataclasses import dataclass

from pydantic import NonNegativeInt, PositiveFloat
from torch import Tensor

from shine_exp.errors import UnsupportedSolver
from shine_exp.solvers.iterates import Iterates, RootFunction
from shine_exp.types import InverseEstimate, Outer, Solution


@dataclass(frozen=True)
class FixedPoint:
    """Solve g(z) = z − f(z) = 0 to ‖g(z)‖ ≤ tol for each sample of z₀ (..., d).

        z ← z − β g(z)

    With `mixing` β = 1 this is the iteration z ← f(z), and β < 1 damps it. Each step costs one
    evaluation of g. Each sample gets its best iterate. Raises `UnsupportedSolver` where an inverse
    estimate is to be used: there is none here.
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
