"""Descent along an approximate hypergradient, safeguarded against its errors."""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from shine_exp.bilevel.comparison import compare
from shine_exp.bilevel.hypergradients.exact import exact_hypergradient
from shine_exp.bilevel.hypergradients.hypergradient import Hypergradient, HypergradientMethod
from shine_exp.bilevel.inner_solution import (
    InnerSolution,
    first_gradient_norm,
    outer_at,
    solve_inner,
    start_solution,
)
from shine_exp.bilevel.loops.schedule import Schedule
from shine_exp.bilevel.loops.secant_line import SecantLine
from shine_exp.bilevel.loops.state import COMPARED, BilevelLoop, State, measured_row
from shine_exp.bilevel.problem import BilevelProblem, Moved
from shine_exp.bilevel.soundness import shown
from shine_exp.loop import Row
from shine_exp.solvers.objective import Objective
from shine_exp.types import Solver, Status

# Both are inner tolerances relative to ‖∇_θG(α₀, θ₀)‖. Below LEAST_EPS a gradient is mostly
# rounding. EXACT_TOL is that of the exact hypergradient, with which `compare` compares.
LEAST_EPS = 1e-14
EXACT_TOL = 1e-10


@dataclass(frozen=True)
class DescentState(State):
    """A state with the step control, the inner solution at `alpha`, and the last hypergradient.

    `eps` is ε, the inner tolerance relative to `scale` = ‖∇_θG(α₀, θ₀)‖, and `curvature` is L. With
    one hyperparameter, `line` is the line of which L is the slope.
    After a step that was undone, `rejected` holds the outer loss there and the step's length.
    """

    eps: float = math.nan
    scale: float = math.nan
    curvature: float = math.nan
    line: SecantLine | None = None
    radius: float = math.nan
    rejected: tuple[float, float] | None = None
    inner: InnerSolution | None = None
    last: Hypergradient | None = None


@dataclass(frozen=True)
class Descent(BilevelLoop[DescentState]):
    """α ← P(α − clip(∇h(α) / L, ± radius)): the outer loop of HOAG, safeguarded.

    P projects onto the feasible set of α, and L estimates the curvature of h. The inner tolerance
    of step t is ‖∇_θG‖ ≤ ε_t ‖∇_θG(α₀, θ₀)‖, ε_t from the schedule.

    A hypergradient may have the wrong length or sign. This therefore differs from HOAG (Pedregosa
    2016, algorithm 1, and its published code):

    1. L starts at ‖first hypergradient‖ / √k, α having k entries (at 1 if that is tiny), and
       follows the secant curvature ⟨Δα, Δ∇h⟩ / ‖Δα‖². There it falls by 5 % after a step that
       lowered F enough, and doubles after one that was undone. With one hyperparameter, α goes to
       the zero of a line through all hypergradients (`SecantLine`).
    2. No entry of α moves further than the radius, which doubles after each step that succeeds, up
       to `max_radius`.
    3. A step that raises the outer loss by more than a share `slack` √ε is undone, and the old α
       is solved again, more accurately. Only if the refused point is still worse does the radius
       become half of that step.
    4. ε is halved further whenever the warm start meets it already, down to `LEAST_EPS`.

    With `compare`, the trace also holds the cosine and the norm ratio of the hypergradient with
    respect to the exact one at the same α.
    """

    solver: Solver[Objective]
    hypergradient: HypergradientMethod
    schedule: Schedule
    n_steps: PositiveInt = 30
    max_radius: PositiveFloat = 2.0
    slack: NonNegativeFloat = 0.3
    compare: bool = False

    needs_gradient = True

    @property
    def any_inner_product(self) -> bool:
        return all(
            getattr(part, "any_inner_product", False) for part in (self.solver, self.hypergradient)
        )

    def check(self, problem: BilevelProblem) -> None:
        super().check(problem)
        self.hypergradient.check(problem)

    def columns(self, problem: BilevelProblem) -> tuple[str, ...]:
        columns = super().columns(problem)
        return (*columns, *COMPARED) if self.compare else columns

    def init(self, problem: BilevelProblem, seed: int) -> DescentState:
        inner = start_solution(problem)
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
        line = None if saved["line"] is None else SecantLine(**saved["line"])
        return DescentState(**(saved | {"inner": inner, "last": last, "line": line}))

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
        # Without the radius, a hypergradient that is far too long or an L that is far too small
        # could make α run away, as it does in the published loop.
        move = _step(state).clamp(-state.radius, state.radius)
        alpha = problem.project(state.alpha + move)
        inner, state = self._solve(problem, state, alpha)
        # θ is known to a tolerance only, and so is F: a small rise says nothing. Written as "not
        # less or equal", the test also refuses a solve that met a number which is not finite.
        allowed = self.slack * math.sqrt(state.eps) * abs(state.outer_value)
        # Where G is not finite, θ may lie where it lay, and F says nothing of α.
        value = math.nan if inner.status is Status.DIVERGED else inner.outer.value
        if not value <= state.outer_value + allowed:
            return replace(state, rejected=(value, float(move.abs().max())))
        grown = min(2.0 * state.radius, self.max_radius)
        return replace(_at(state, inner), radius=grown)

    def diverged(self, state: DescentState) -> str | None:
        if state.step == 0 or state.inner is None:
            return None
        at = f"at α = {shown(state.alpha)}"
        if state.inner.status is Status.DIVERGED:
            value = state.inner.point.value
            worst = state.inner.residual if math.isfinite(value) else value
            return f"the inner loss or its gradient is {worst} {at}"
        if not math.isfinite(state.outer_value):
            return f"the outer loss is {state.outer_value} {at}"
        if state.last is not None and not math.isfinite(state.gradient_norm):
            return f"the hypergradient is {state.gradient_norm} {at}"
        return None

    def _settle(self, problem: BilevelProblem, state: DescentState) -> DescentState:
        """Solve at the current α, for the first time or again after a step that was undone."""
        inner, state = self._solve(problem, state, state.alpha)
        if state.rejected is not None:
            # θ at the old α may have been solved so loosely that F there looked too low.
            rejected_value, length = state.rejected
            if not rejected_value <= inner.outer.value:
                state = replace(state, radius=min(state.radius, 0.5 * length))
        return replace(_at(state, inner), rejected=None)

    def _solve(
        self, problem: BilevelProblem, state: DescentState, alpha: Tensor
    ) -> tuple[InnerSolution, DescentState]:
        """The inner solution at `alpha` to ε‖∇_θG(α₀, θ₀)‖, and the state with its cost counted.

        ε is halved until the solver makes a step. Without one, θ stays as it was, and the move of α
        would be judged by the outer loss of the old θ.
        """
        last = state.inner
        assert last is not None
        warm = Moved(None)
        if self.solver.uses_estimate and last.estimate is not None:
            warm = problem.moved(last.estimate, state.alpha, alpha, last.theta)
        state = replace(state, products=state.products + warm.n_products)
        while True:
            tol = state.eps * state.scale
            outer = outer_at(problem, alpha, self.n_steps - state.step)
            inner = solve_inner(problem, self.solver, alpha, last.point, tol, warm.estimate, outer)
            missed = inner.status is not Status.CONVERGED
            state = replace(
                state,
                inner_steps=state.inner_steps + inner.n_steps,
                evals=state.evals + inner.n_evals,
                unsolved_inner=state.unsolved_inner + missed,
            )
            # A solver that made no step has left the estimate as it was. And where ∇_θG is exactly
            # 0, no tolerance makes it step.
            if inner.n_steps > 0 or missed or inner.residual == 0 or state.eps <= LEAST_EPS:
                return inner, state
            state = replace(state, eps=state.eps / 2)

    def _differentiate(self, problem: BilevelProblem, state: DescentState) -> DescentState:
        assert state.inner is not None
        found = self.hypergradient(problem, state.inner, state.eps, state.last)
        line = self._line(state, found.value) if found.value.numel() == 1 else None
        return replace(
            state,
            curvature=_curvature(state, found.value) if line is None else line.curvature,
            line=line,
            last=found,
            gradient_norm=float(found.value.norm()),
            products=state.products + found.n_products,
            unsolved_backward=state.unsolved_backward + (not found.solved),
        )

    def _line(self, state: DescentState, gradient: Tensor) -> SecantLine:
        point = float(state.alpha), float(gradient)
        if state.line is None:
            return SecantLine.through(*point)
        return state.line.updated(*point, self.max_radius)


def _step(state: DescentState) -> Tensor:
    """The way to where h is lowest as far as its curvature is known, in the shape of α."""
    assert state.last is not None
    if state.line is None:
        return -state.last.value / state.curvature
    return torch.full_like(state.alpha, state.line.step)


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


def _at(state: DescentState, inner: InnerSolution) -> DescentState:
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
