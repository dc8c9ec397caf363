"""Descent along an approximate hypergradient, safeguarded against its errors."""

import math
from dataclasses import dataclass, replace
from typing import Any

from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from shine_exp.bilevel.inner_solution import first_gradient_norm, start_solution
from shine_exp.bilevel.loops.gradient_loop import GradientLoop, GradientState, at_solution
from shine_exp.bilevel.problem import BilevelProblem
from shine_exp.types import Status


@dataclass(frozen=True)
class DescentState(GradientState):
    """A state with the step control; `curvature` is L.

    After a step that was undone, `rejected` holds the outer loss there and the step's length.
    """

    curvature: float = math.nan
    radius: float = math.nan
    rejected: tuple[float, float] | None = None


@dataclass(frozen=True)
class Descent(GradientLoop[DescentState]):
    """α ← P(α − clip(∇h(α) / L, ± radius)): the outer loop of HOAG, safeguarded.

    P projects onto the feasible set of α, and L estimates the curvature of h. The inner tolerance
    of step t is ‖∇_θG‖ ≤ ε_t ‖∇_θG(α₀, θ₀)‖, ε_t from the schedule.

    A hypergradient may have the wrong length or sign. This therefore differs from HOAG (Pedregosa
    2016, algorithm 1, and its published code):

    1. L starts at ‖first hypergradient‖ / √k, α having k entries (at 1 if that is tiny), and
       follows the secant curvature ⟨Δα, Δ∇h⟩ / ‖Δα‖². There it falls by 5 % after a step that
       lowered F enough, and doubles after one that was undone.
    2. No entry of α moves further than the radius, which doubles after each step that succeeds, up
       to `max_radius`.
    3. A step that raises the outer loss by more than a share `slack` √ε is undone, and the old α
       is solved again, more accurately. Only if the refused point is still worse does the radius
       become half of that step.
    4. ε is halved further whenever the warm start meets it already (`GradientLoop`).
    """

    max_radius: PositiveFloat = 1.0
    slack: NonNegativeFloat = 0.3

    def init(self, problem: BilevelProblem, seed: int) -> DescentState:
        inner = start_solution(problem, seed)
        return DescentState(
            0,
            inner.alpha,
            inner.theta,
            evals=inner.n_evals,
            scale=first_gradient_norm(inner.point),
            radius=self.max_radius,
            inner=inner,
        )

    def load_state_dict(self, problem: BilevelProblem, saved: dict[str, Any]) -> DescentState:
        return DescentState(**self._loaded(problem, saved))

    def step(self, problem: BilevelProblem, state: DescentState) -> DescentState:
        settle = state.step == 0 or state.rejected is not None
        before = self._next(state)
        if settle:
            return self._settle(problem, before)
        state = self._differentiate(problem, before)
        assert state.last is not None
        gradient = state.last.value
        state = replace(state, curvature=_curvature(before, gradient))
        if self.diverged(state):
            return state
        # Without the radius, a hypergradient that is far too long or an L that is far too small
        # could make α run away, as it does in the published loop.
        move = (gradient / state.curvature).clamp(-state.radius, state.radius)
        alpha = problem.project(state.alpha - move)
        inner, state = self._solve(problem, state, alpha)
        # θ is known to a tolerance only, and so is F: a small rise says nothing. Written as "not
        # less or equal", the test also refuses a solve that met a number which is not finite.
        allowed = self.slack * math.sqrt(state.eps) * abs(state.outer_value)
        # Where G is not finite, θ may lie where it lay, and F says nothing of α.
        value = math.nan if inner.status is Status.DIVERGED else inner.outer.value
        if not value <= state.outer_value + allowed:
            return replace(state, rejected=(value, float(move.abs().max())))
        grown = min(2.0 * state.radius, self.max_radius)
        return replace(at_solution(state, inner), radius=grown)

    def _settle(self, problem: BilevelProblem, state: DescentState) -> DescentState:
        """Solve at the current α, for the first time or again after a step that was undone."""
        inner, state = self._solve(problem, state, state.alpha)
        if state.rejected is not None:
            # θ at the old α may have been solved so loosely that F there looked too low.
            rejected_value, length = state.rejected
            if not rejected_value <= inner.outer.value:
                state = replace(state, radius=min(state.radius, 0.5 * length))
        return replace(at_solution(state, inner), rejected=None)


def _curvature(state: DescentState, gradient: Tensor) -> float:
    """L after a new hypergradient."""
    if state.last is None:
        first = float(gradient.norm()) / math.sqrt(gradient.numel())
        return first if first >= 1e-3 else 1.0
    change = (state.alpha - state.last.alpha).flatten()
    square = float(change @ change)
    if square == 0:
        return state.curvature
    secant = float(change @ (gradient - state.last.value).flatten()) / square
    # L must be able to rise, where steps overshoot. But the secants of a noisy hypergradient are as
    # often too high as too low, and would drive L up if it could rise as fast as it falls.
    return min(max(secant, 0.5 * state.curvature), 1.2 * state.curvature)
