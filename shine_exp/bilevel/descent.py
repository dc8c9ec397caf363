"""Descent along an approximate hypergradient, safeguarded against its errors."""

import math
from dataclasses import dataclass, replace
from typing import Any

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from shine_exp.bilevel.comparison import compare
from shine_exp.bilevel.hypergradients.exact import exact_hypergradient
from shine_exp.bilevel.hypergradients.hypergradient import Hypergradient, HypergradientMethod
from shine_exp.bilevel.inner_solution import (
    InnerSolution,
    first_gradient_norm,
    solve_inner,
    start_solution,
    told,
)
from shine_exp.bilevel.loop import BilevelLoop, State, measured_row
from shine_exp.bilevel.problem import BilevelProblem, Moved
from shine_exp.bilevel.schedule import Schedule
from shine_exp.loop import Row
from shine_exp.solvers.objective import Objective
from shine_exp.types import Solver, Status

LEAST_EPS = 1e-14  # times ‖∇_θG(α₀, θ₀)‖: about what rounding leaves of a gradient
EXACT_TOL = 1e-10  # the same, for the hypergradient that `compare` holds ours against


@dataclass(frozen=True)
class DescentState(State):
    """A state with the step control, the inner solution at `alpha`, and the last hypergradient.

    ε is the relative inner tolerance and `scale` what it is relative to, ‖∇_θG(α₀, θ₀)‖. L is
    `curvature`; `rejected` holds the outer loss and the length of the step that was undone.
    """

    eps: float = math.nan
    scale: float = math.nan
    curvature: float = math.nan
    radius: float = math.nan
    rejected: tuple[float, float] | None = None
    inner: InnerSolution | None = None
    last: Hypergradient | None = None


@dataclass(frozen=True)
class Descent(BilevelLoop[DescentState]):
    """α ← P(α − clip(∇h / L, ± radius)), P onto the feasible set: HOAG's outer loop (Pedregosa
    2016, algorithm 1).

    The inner tolerance is ε_t ‖∇_θG(α₀, θ₀)‖, and ε is halved further whenever the warm start
    meets it already, down to `LEAST_EPS`: a step without an inner step would compare nothing.
    Safeguards, since a hypergradient may have the wrong length or sign:

    - L starts at ‖first hypergradient‖ / √k (1 if that is tiny) and follows the secant curvature
      ⟨Δα, Δ∇h⟩ / ‖Δα‖², down by a factor of 2 a step at most and up by 1.2: it must rise where
      steps overshoot, but the secants of a noisy hypergradient, as often too high as too low,
      would inflate it if both were alike.
    - No coordinate moves further than the radius, which doubles after a step that succeeded, up to
      `max_radius` (the published step can run away).
    - A step that raises the outer loss by more than `slack` √ε is undone and the old α solved
      again, more accurately: a loosely solved θ can look better than θ*. Only if the refused point
      is still worse, the radius becomes half of that step. A solve that met a number which is not
      finite is worse than any.

    With `compare`, the trace holds the hypergradient of `gradient_norm` against the exact one at
    the same α.
    """

    solver: Solver[Objective]
    hypergradient: HypergradientMethod
    schedule: Schedule
    n_steps: PositiveInt = 30
    max_radius: PositiveFloat = 1.0
    slack: NonNegativeFloat = 0.3
    compare: bool = False

    needs_gradient = True

    def check(self, problem: BilevelProblem) -> None:
        self.hypergradient.check(problem)

    def columns(self, problem: BilevelProblem) -> tuple[str, ...]:
        columns = super().columns(problem)
        return (*columns, "exact_cosine", "exact_norm_ratio") if self.compare else columns

    def init(self, problem: BilevelProblem, seed: int) -> DescentState:
        inner = start_solution(problem, seed)
        return DescentState(
            0,
            inner.alpha,
            inner.theta,
            evals=inner.n_evals,
            scale=first_gradient_norm(inner.point),
            eps=math.inf,
            radius=self.max_radius,
            inner=inner,
        )

    def load_state_dict(self, problem: BilevelProblem, saved: dict[str, Any]) -> DescentState:
        inner = InnerSolution.load(problem, self.solver, saved["inner"])
        last = None if saved["last"] is None else Hypergradient(**saved["last"])
        return DescentState(**(saved | {"inner": inner, "last": last}))

    def measure(self, problem: BilevelProblem, state: DescentState) -> list[Row]:
        row = measured_row(problem, state)
        if self.compare and state.last is not None:
            assert state.inner is not None
            tol = EXACT_TOL * state.scale
            exact = exact_hypergradient(problem, state.last.alpha, state.inner.point, tol)
            compared = compare(state.last.value, exact.value)
            row |= {f"exact_{name}": value for name, value in compared.items()}
        return [row]

    def step(self, problem: BilevelProblem, state: DescentState) -> DescentState:
        settle = state.step == 0 or state.rejected is not None
        step = state.step + 1
        state = replace(state, step=step, eps=min(state.eps, self.schedule(step)))
        if settle:
            return self._settle(problem, state)
        state = self._differentiate(problem, state)
        if self.diverged(state):
            return state
        assert state.last is not None
        move = (state.last.value / state.curvature).clamp(-state.radius, state.radius)
        alpha = problem.project(state.alpha - move)
        inner, state = self._solve(problem, state, alpha)
        allowed = self.slack * math.sqrt(state.eps) * abs(state.outer_value)
        if not inner.outer.value <= state.outer_value + allowed:
            return replace(state, rejected=(inner.outer.value, float(move.abs().max())))
        grown = min(2.0 * state.radius, self.max_radius)
        return replace(_moved(state, inner), radius=grown)

    def diverged(self, state: DescentState) -> bool:
        gradient_norm = 0.0 if state.last is None else state.gradient_norm
        return state.step > 0 and not math.isfinite(state.outer_value + gradient_norm)

    def _settle(self, problem: BilevelProblem, state: DescentState) -> DescentState:
        """Solve at the current α, for the first time or again after a step that was undone."""
        inner, state = self._solve(problem, state, state.alpha)
        if state.rejected is not None and not state.rejected[0] <= inner.outer.value:
            radius = min(state.radius, 0.5 * state.rejected[1])
            state = replace(state, radius=radius)
        return replace(_moved(state, inner), rejected=None)

    def _solve(
        self, problem: BilevelProblem, state: DescentState, alpha: Tensor
    ) -> tuple[InnerSolution, DescentState]:
        """The inner solution at alpha to ε‖∇_θG(α₀, θ₀)‖, and the state with its cost counted."""
        last = state.inner
        assert last is not None
        while True:
            warm = Moved(None)
            if self.solver.uses_estimate and last.estimate is not None:
                warm = problem.moved(last.estimate, state.alpha, alpha, last.theta)
            tol = state.eps * state.scale
            outer = told(problem, alpha, self.n_steps - state.step)
            inner = solve_inner(problem, self.solver, alpha, last.point, tol, warm.estimate, outer)
            missed = inner.status is not Status.CONVERGED
            state = replace(
                state,
                inner_steps=state.inner_steps + inner.n_steps,
                evals=state.evals + inner.n_evals,
                products=state.products + warm.n_products,
                unsolved_inner=state.unsolved_inner + missed,
            )
            # Where ∇_θG is exactly 0, no tolerance asks for a step.
            if inner.n_steps > 0 or missed or inner.residual == 0 or state.eps <= LEAST_EPS:
                return inner, state
            state = replace(state, eps=state.eps / 2)

    def _differentiate(self, problem: BilevelProblem, state: DescentState) -> DescentState:
        assert state.inner is not None
        found = self.hypergradient(problem, state.inner, state.eps, state.last)
        return replace(
            state,
            curvature=_curvature(state, found.value),
            last=found,
            gradient_norm=float(found.value.norm()),
            products=state.products + found.n_products,
            unsolved_backward=state.unsolved_backward + (not found.solved),
        )


def _curvature(state: DescentState, gradient: Tensor) -> float:
    """L after a new hypergradient."""
    if state.last is None:
        first = float(gradient.norm()) / math.sqrt(gradient.numel())
        return first if first >= 1e-3 else 1.0
    moved = (state.alpha - state.last.alpha).flatten()
    square = float(moved @ moved)
    if square == 0:
        return state.curvature
    secant = float(moved @ (gradient - state.last.value).flatten()) / square
    return min(max(secant, 0.5 * state.curvature), 1.2 * state.curvature)


def _moved(state: DescentState, inner: InnerSolution) -> DescentState:
    """The state at a new inner solution, with the tolerance and the residual that belong to it."""
    return replace(
        state,
        alpha=inner.alpha,
        theta=inner.theta,
        outer_value=inner.outer.value,
        tol=state.eps * state.scale,
        inner_residual=inner.residual,
        inner=inner,
    )
