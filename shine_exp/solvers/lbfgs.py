"""BFGS and L-BFGS with a strong Wolfe line search, warm starts of the memory, and OPA."""

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

# The memory doubles after every PATIENCE steps of one solve, up to MOST_PAIRS: on badly scaled
# variables a short memory converges so slowly that a thousand steps do not get there.
PATIENCE = 200
MOST_PAIRS = 256
# A solve ends after STANDSTILL steps in a row that neither lowered G by more than rounding nor
# ‖∇G‖ below its lowest value so far.
STANDSTILL = 20


@dataclass(frozen=True)
class LBFGS:
    """Minimise G from z₀ (d,) to ‖∇G(z)‖ ≤ tol.

        z ← z − t H∇G(z),    H ≈ (∇²G)⁻¹ from the last `memory` secant pairs (s, y)

    with s = Δz, y = Δ∇G, and t by a strong Wolfe line search (Liu & Nocedal 1989). `memory=None`
    keeps all pairs, which is BFGS. `initial` sets H₀ = γI: γ = sᵀy / yᵀy of the last step's pair
    if "scaled", 1 if "identity".

    With `opa = k`, and where the solver is told ∇F, every k-th step adds the pair

        (e, ∇G(z + e) − ∇G(z)),    e ∝ H∇F(z),    ‖e‖ = ‖s‖ of the last step

    and "countdown" takes for k the number of outer steps that are left (Ramzi et al. 2022,
    section 3 and appendix C).

    Ends as STALLED where floating point sees no further progress: no step along H∇G or ∇G lowers
    G, or `STANDSTILL` steps in a row did not. `n_evals` counts the gradients that the objective
    was asked for. The estimate given for a warm start is changed in place. Raises
    `UnsupportedSolver` where it is of another type.

    This differs from SciPy's L-BFGS-B:

    1. It stops on ‖∇G‖₂ alone, not on the largest entry of ∇G, nor on a small decrease of G.
    2. It starts with the pairs of an earlier solve, and hands its own on.
    3. The memory doubles after every `PATIENCE` steps, up to `MOST_PAIRS`; the estimate keeps it.
    4. There are OPA pairs, and no bounds on z.

    The published code of Ramzi et al. forgets the pairs after each solve, and has c₂ = 9e-4 in the
    line search where this has 0.9; scripts/published/regression.py measures what that costs.
    """

    memory: PositiveInt | None = 30
    initial: Literal["scaled", "identity"] = "scaled"
    max_steps: NonNegativeInt = 1000
    opa: PositiveInt | Literal["countdown"] | None = None
    line_search: StrongWolfe = field(default_factory=StrongWolfe)

    leaves_estimate = True
    uses_estimate = True
    any_inner_product = True
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
            estimate = InverseHessian(self.memory, self.initial, g.inner_product)
        elif not isinstance(estimate, InverseHessian):
            raise UnsupportedSolver(
                "L-BFGS starts from its own estimate only: pass an InverseHessian"
            )
        before = g.n_evals
        run = _Run(self, g(z0), estimate, outer)
        status = run.to(tol)
        return Solution(
            z=run.point.z,
            estimate=run.h,
            residual=torch.tensor(run.point.gradient_norm, dtype=z0.dtype, device=z0.device),
            n_steps=run.n_steps,
            n_evals=g.n_evals - before,
            status=status,
            converged=torch.tensor(status is Status.CONVERGED),
            diverged=torch.tensor(status is Status.DIVERGED),
            point=run.point,
        )

    def load_estimate(self, saved: dict[str, Any]) -> InverseHessian:
        """The estimate whose `state_dict` was saved."""
        return InverseHessian.from_state_dict(saved)


class _Run:
    """One minimisation: where it stands, the estimate H, and ∇G projected on the pairs of H.

    The projection is kept from step to step: it is needed for H∇G, and the difference of two is
    the projection of y, which the new pair needs. So each step passes over the history once for
    ∇G and once for H∇G, and never for y.
    """

    def __init__(
        self, settings: LBFGS, start: Point, h: InverseHessian, outer: Outer | None
    ) -> None:
        self.settings = settings
        self.point = start
        self.h = h
        self.dot = h.inner_product
        self.projection = h.project(start.gradient)
        self.n_steps = 0
        self.last_step = torch.zeros_like(start.z)
        self.progress = _Progress()
        self.outer = None if settings.opa is None else outer
        steps_left = 1 if outer is None else max(1, outer.steps_left)
        self.opa = settings.opa if isinstance(settings.opa, int) else steps_left

    def to(self, tol: float) -> Status:
        """Step until ‖∇G‖ ≤ tol, no step is left, or none makes progress."""
        while True:
            value, residual = self.point.value, self.point.gradient_norm
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
        """Move along −H∇G, or where that fails along −γ∇G with an empty memory.

        The answer is False, and H as it was, where both fail.
        """
        gradient = self.point.gradient
        if len(self.h) == 0:
            # Nothing is known of the curvature: the first trial has the length 1.
            return self._move(-gradient, 1.0 / self.point.gradient_norm)
        if self._move(-self.h.matvec(gradient, self.projection), 1.0):
            return True
        h, projection = self.h, self.projection
        self.h = InverseHessian(h.memory, self.settings.initial, self.dot)
        self.projection = self.h.project(gradient)
        if self._move(-h.gamma * gradient, 1.0):
            return True
        self.h, self.projection = h, projection
        return False

    def _move(self, d: Tensor, first_trial: float) -> bool:
        """Make one step along d (d,) and add its pair; False where no step lowers G."""
        slope = float(self.dot(self.point.gradient, d))
        if not slope < 0:  # a slope of NaN is no descent either
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
        """Add the pair of the last step; the projection of y is a difference, not a pass."""
        now = self.h.project(self.point.gradient)
        known = Projection(now.s - self.projection.s, now.y - self.projection.y)
        self.projection = now
        self._append(s, y, known, of_step=True)

    def _add_outer_pair(self, outer_gradient: Callable[[Tensor], Tensor]) -> None:
        """Add the OPA pair of e ∝ H∇F(z), which is as long as the last step.

        A much shorter e would measure rounding, a much longer one the Hessian of other points.
        """
        e = self.h.matvec(outer_gradient(self.point.z))
        e = e * (self.dot.norm(self.last_step) / self.dot.norm(e))
        y = self.point.ray(e).end(1.0).gradient - self.point.gradient
        self._append(e, y, None, of_step=False)

    def _append(self, s: Tensor, y: Tensor, known: Projection | None, of_step: bool) -> None:
        full = len(self.h) == self.h.memory
        if not self.h.append(s, y, known, of_step=of_step):
            return
        # The projection of ∇G follows the memory: the oldest entry leaves, the new pair's comes.
        gradient = self.point.gradient
        kept = slice(1 if full else 0, None)
        self.projection = Projection(
            torch.cat([self.projection.s[kept], self.dot(s, gradient)[None]]),
            torch.cat([self.projection.y[kept], self.dot(y, gradient)[None]]),
        )


class _Progress:
    """Whether the steps still change anything that floating point can tell from rounding.

    G alone does not say: near the minimum it is flat to working precision long before ∇G is 0.
    """

    def __init__(self) -> None:
        self.lowest_value = self.lowest_residual = math.inf
        self.n_idle = 0

    def stands_still(self, value: float, residual: float) -> bool:
        """Whether the last `STANDSTILL` steps made no progress; to be asked once per step."""
        rounding = sys.float_info.epsilon * abs(value)
        if value < self.lowest_value - rounding or residual < self.lowest_residual:
            self.n_idle = 0
        else:
            self.n_idle += 1
        self.lowest_value = min(self.lowest_value, value)
        self.lowest_residual = min(self.lowest_residual, residual)
        return self.n_idle >= STANDSTILL
