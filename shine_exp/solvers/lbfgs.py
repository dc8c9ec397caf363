"""(L-)BFGS with a strong Wolfe line search, a memory that can be warm-started, and outer-problem
awareness.
"""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from shine_exp.errors import UnsupportedSolver
from shine_exp.solvers.inverse_hessian import InverseHessian, Projection
from shine_exp.solvers.line_search import StrongWolfe
from shine_exp.solvers.objective import Objective, Point
from shine_exp.types import InverseEstimate, Outer, Solution, Status

PATIENCE = (
    200  # steps: a solve that takes longer gets twice the memory, and again after as many more
)
MOST_PAIRS = 256  # beyond which the memory does not grow
# steps in a row that neither lowered G, as far as rounding shows, nor reached a new lowest ‖∇G‖
STANDSTILL = 20


@dataclass(frozen=True)
class LBFGS:
    """Minimise G from z₀ to ‖∇G(z)‖ ≤ tol,

        z ← z − t H∇G(z),    H ≈ (∇²G)⁻¹ from the last `memory` secant pairs (s, y),

    t by a strong Wolfe line search (Liu & Nocedal 1989). `memory=None` keeps all pairs: BFGS.
    `initial` sets H₀ = γI, "scaled" by γ = sᵀy / yᵀy or the "identity". With `opa` every so many
    steps add the pair (e, ∇G(z + e) − ∇G(z)), e ∝ H∇F(z), ‖e‖ = ‖last s‖, where the solver is told
    ∇F; "countdown" means as many as outer steps are left (Ramzi et al. 2022, section 3 and
    appendix C). `n_evals` counts the gradients that the objective was asked for. Solves one
    system: z is (d,).

    On badly scaled variables a short memory converges so slowly that a thousand steps do not get
    there. The memory therefore doubles after every `PATIENCE` steps of one solve, up to
    `MOST_PAIRS`, and the estimate keeps it. Ends as STALLED where floating point sees no further
    progress: no step lowers G, or `STANDSTILL` steps in a row did not.

    The estimate given for a warm start is changed in place. Raises `UnsupportedSolver` where it is
    of another type.
    """

    memory: PositiveInt | None = 30
    initial: Literal["scaled", "identity"] = "scaled"
    max_steps: NonNegativeInt = 1000
    opa: PositiveInt | Literal["countdown"] | None = None
    line_search: StrongWolfe = field(default_factory=StrongWolfe)

    leaves_estimate = True
    uses_estimate = True
    finds = "minimum"

    def __call__(
        self,
        g: Objective,
        z0: Tensor,
        tol: float,
        *,
        outer: Outer | None = None,
        estimate: InverseEstimate | None = None,
    ) -> Solution:
        if estimate is None:
            estimate = InverseHessian(self.memory, self.initial)
        elif not isinstance(estimate, InverseHessian):
            raise UnsupportedSolver(
                "L-BFGS starts from its own estimate only: pass an InverseHessian"
            )
        before = g.n_evals
        run = _Run(self, g(z0), estimate, outer)
        status = run.to(tol)
        residual = run.point.gradient.norm()
        return Solution(
            run.point.z,
            run.h,
            residual,
            run.n_steps,
            g.n_evals - before,
            status,
            converged=torch.tensor(status is Status.CONVERGED),
            diverged=torch.tensor(status is Status.DIVERGED),
            point=run.point,
        )

    def load_estimate(self, saved: dict[str, Any]) -> InverseHessian:
        """The estimate whose `state_dict` was saved."""
        return InverseHessian.from_state_dict(saved)


class _Run:
    """One minimisation: the current point, the estimate H, and the projection of the gradient on
    the pairs of H.
    """

    def __init__(
        self, settings: LBFGS, start: Point, h: InverseHessian, outer: Outer | None
    ) -> None:
        self.settings, self.point, self.h = settings, start, h
        self.projection = h.project(start.gradient)
        self.n_steps = 0
        self.last_step = torch.zeros_like(start.z)
        self.progress = _Progress()
        self.outer = None if settings.opa is None else outer
        steps_left = 1 if outer is None else max(1, outer.steps_left)
        self.opa = settings.opa if isinstance(settings.opa, int) else steps_left

    def to(self, tol: float) -> Status:
        """Step until ‖∇G‖ ≤ tol, or until no step is left, or none makes progress."""
        while True:
            value, residual = self.point.value, float(self.point.gradient.norm())
            if not math.isfinite(residual + value):
                return Status.DIVERGED
            if residual <= tol:
                return Status.CONVERGED
            if self.n_steps >= self.settings.max_steps:
                return Status.MAX_STEPS
            if self.progress.stands_still(value, residual) or not self._step():
                return Status.STALLED
            self.n_steps += 1
            if self.outer is not None and self.n_steps % self.opa == 0:
                self._add_outer_pair(self.outer.gradient)
            if self.n_steps % PATIENCE == 0:
                self.h.grow(MOST_PAIRS)

    def _step(self) -> bool:
        """Move along −H∇G, or where that fails along −γ∇G with an empty memory; False, H
        unchanged, where both fail.
        """
        gradient = self.point.gradient
        if len(self.h) == 0:
            return self._move(-gradient, 1.0 / float(gradient.norm()))
        if self._move(-self.h.matvec(gradient, self.projection), 1.0):
            return True
        kept = self.h, self.projection
        self.h = InverseHessian(self.h.memory, self.settings.initial)
        self.projection = self.h.project(gradient)
        if self._move(-kept[0].gamma * gradient, 1.0):
            return True
        self.h, self.projection = kept
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
        self.last_step = d.mul_(t)
        self._add_pair(self.last_step, self.point.gradient - start.gradient)
        return True

    def _add_pair(self, s: Tensor, y: Tensor) -> None:
        """The pair between the last gradient and this one: the projection of y is a difference of
        theirs, not a pass over the history.
        """
        now = self.h.project(self.point.gradient)
        known = Projection(now.s - self.projection.s, now.y - self.projection.y)
        self.projection = now
        self._append(s, y, known)

    def _add_outer_pair(self, outer_gradient: Callable[[Tensor], Tensor]) -> None:
        """OPA: the pair of the step e ∝ H∇F, as long as the last step."""
        e = self.h.matvec(outer_gradient(self.point.z))
        e = e * (self.last_step.norm() / e.norm())
        self._append(e, self.point.ray(e).end(1.0).gradient - self.point.gradient, None)

    def _append(self, s: Tensor, y: Tensor, known: Projection | None) -> None:
        full = len(self.h) == self.h.memory
        if not self.h.append(s, y, known):
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
