"""(L-)BFGS with a strong Wolfe line search, a memory that can be warm-started, and outer-problem
awareness.
"""

import math
import sys
from dataclasses import dataclass, field
from typing import Literal

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from shine_exp.errors import UnsupportedSolver
from shine_exp.solvers.inverse_hessian import InverseHessian, Projection
from shine_exp.solvers.line_search import StrongWolfe
from shine_exp.solvers.objective import Objective, Point
from shine_exp.types import Awareness, LinearInverse, Solution, Status

PATIENCE = (
    200  # steps: a solve that takes longer gets twice the memory, and again after as many more
)
MOST_PAIRS = 256  # beyond which the memory does not grow
# steps in a row that neither lowered G, as far as rounding shows, nor reached a new lowest ‖∇G‖
STANDSTILL = 20


@dataclass(frozen=True)
class LBFGS:
    """Minimise G from z₀ to ‖∇G(z)‖ ≤ tol: z ← z − t H∇G(z), with H from the last `memory` secant
    pairs.

    `memory=None` keeps all pairs: BFGS. `initial` sets H₀ = γI, "scaled" by γ = sᵀy / yᵀy or the
    "identity". With awareness every k-th step adds the pair (e, ∇G(z + e) − ∇G(z)), e ∝
    H·direction(z), ‖e‖ = ‖last s‖ (Ramzi et al. 2022, section 3, "OPA"). One gradient evaluation
    per accepted step, one more per extra pair; trials of the line search are not counted, since a
    linear model does not pay for them. Solves one system: z is (d,).

    On badly scaled variables a short memory converges so slowly that a thousand steps do not get
    there. The memory therefore doubles after every `PATIENCE` steps of one solve, up to
    `MOST_PAIRS`, and the estimate keeps it. Ends as STALLED where floating point sees no further
    progress: no step lowers G, or `STANDSTILL` steps in a row did not.

    The inverse given for a warm start is updated in place. Raises `UnsupportedSolver` where it is
    of another type.
    """

    memory: PositiveInt | None = 30
    initial: Literal["scaled", "identity"] = "scaled"
    max_steps: NonNegativeInt = 1000
    line_search: StrongWolfe = field(default_factory=StrongWolfe)

    leaves_inverse = True
    finds = "minimum"
    takes_awareness = True

    def __call__(
        self,
        g: Objective,
        z0: Tensor,
        tol: float,
        *,
        awareness: Awareness | None = None,
        inverse: LinearInverse | None = None,
    ) -> Solution:
        if inverse is None:
            inverse = InverseHessian(self.memory, self.initial)
        elif not isinstance(inverse, InverseHessian):
            raise UnsupportedSolver(
                "L-BFGS starts from its own estimate only: pass an InverseHessian"
            )
        return _Run(self, g(z0), inverse).to(tol, awareness)

    def estimate(self, s: Tensor, y: Tensor) -> InverseHessian:
        """The estimate that secant pairs, rows of (n, d) and oldest first, give: for a warm start.

        More pairs than `memory` come from a solve in which it grew, and are kept.
        """
        memory = None if self.memory is None else max(self.memory, len(s))
        return InverseHessian.from_pairs(s, y, memory, self.initial)


class _Run:
    """One minimisation: the current point, the estimate, and the projection of the gradient on the
    estimate's pairs.
    """

    def __init__(self, settings: LBFGS, start: Point, inverse: InverseHessian) -> None:
        self.settings = settings
        self.point = start
        self.inverse = inverse
        self.projection = inverse.project(start.gradient)
        self.n_evals = 1
        self.last_step = torch.zeros_like(start.z)
        self.progress = _Progress()

    def to(self, tol: float, awareness: Awareness | None) -> Solution:
        status, n_steps = Status.MAX_STEPS, 0
        while True:
            residual = self.point.gradient.norm()
            if not math.isfinite(residual) or not math.isfinite(self.point.value):
                status = Status.DIVERGED
            elif residual <= tol:
                status = Status.CONVERGED
            elif n_steps < self.settings.max_steps:
                if (
                    not self.progress.stands_still(self.point.value, float(residual))
                    and self._step()
                ):
                    n_steps += 1
                    if awareness is not None and n_steps % awareness.every == 0:
                        self._add_aware_pair(awareness)
                    if n_steps % PATIENCE == 0:
                        self.inverse.grow(MOST_PAIRS)
                    continue
                status = Status.STALLED
            flags = (torch.tensor(status is other) for other in (Status.CONVERGED, Status.DIVERGED))
            return Solution(
                self.point.z, self.inverse, residual, n_steps, self.n_evals, status, *flags
            )

    def _step(self) -> bool:
        """Move along −H∇G, or where that fails along −γ∇G with an empty memory; False, H
        unchanged, where both fail.
        """
        gradient = self.point.gradient
        if len(self.inverse) == 0:
            return self._move(-gradient, 1.0 / float(gradient.norm()))
        if self._move(-self.inverse.matvec(gradient, self.projection), 1.0):
            return True
        kept = self.inverse, self.projection
        self.inverse = InverseHessian(self.inverse.memory, self.settings.initial)
        self.projection = self.inverse.project(gradient)
        if self._move(-kept[0].gamma * gradient, 1.0):
            return True
        self.inverse, self.projection = kept
        return False

    def _move(self, d: Tensor, first_trial: float) -> bool:
        slope = float(self.point.gradient @ d)
        if not slope < 0:
            return False
        ray = self.point.ray(d)
        t = self.settings.line_search(ray, self.point.value, slope, first_trial)
        if t is None:
            return False
        start, self.point = self.point, ray.end(t)
        self.n_evals += 1
        self.last_step = d.mul_(t)
        self._learn(self.last_step, self.point.gradient - start.gradient)
        return True

    def _learn(self, s: Tensor, y: Tensor) -> None:
        """Append a pair between the last gradient and this one: the projection of y is a
        difference, not a pass.
        """
        now = self.inverse.project(self.point.gradient)
        known = Projection(now.s - self.projection.s, now.y - self.projection.y)
        self.projection = now
        self._append(s, y, known)

    def _add_aware_pair(self, awareness: Awareness) -> None:
        e = self.inverse.matvec(awareness.direction(self.point.z))
        e = e * (self.last_step.norm() / e.norm())
        self._append(e, self.point.ray(e).end(1.0).gradient - self.point.gradient, None)
        self.n_evals += 1

    def _append(self, s: Tensor, y: Tensor, known: Projection | None) -> None:
        full = len(self.inverse) == self.inverse.memory
        if not self.inverse.append(s, y, known):
            return
        gradient, kept = self.point.gradient, slice(1 if full else 0, None)
        self.projection = Projection(
            torch.cat([self.projection.s[kept], (s @ gradient)[None]]),
            torch.cat([self.projection.y[kept], (y @ gradient)[None]]),
        )


class _Progress:
    """Whether the steps of a minimisation still change anything that floating point can tell from
    rounding.
    """

    def __init__(self) -> None:
        self.lowest_value = self.lowest_residual = math.inf
        self.n_idle = 0

    def stands_still(self, value: float, residual: float) -> bool:
        """To be asked once per step: whether the last `STANDSTILL` made no progress."""
        rounding = sys.float_info.epsilon * abs(value)
        if value < self.lowest_value - rounding or residual < self.lowest_residual:
            self.n_idle = 0
        else:
            self.n_idle += 1
        self.lowest_value = min(self.lowest_value, value)
        self.lowest_residual = min(self.lowest_residual, residual)
        return self.n_idle >= STANDSTILL
