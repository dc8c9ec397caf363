"""Descent along an approximate hypergradient, safeguarded against its errors."""

import math
from dataclasses import dataclass, replace
from typing import Any, Protocol

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from shine_exp.bilevel.comparison import compare
from shine_exp.bilevel.hypergradients.exact import true_hypergradient
from shine_exp.bilevel.loop import (
    COLUMNS,
    HyperparameterLoop,
    State,
    first_gradient_norm,
    loss_row,
    start_point,
)
from shine_exp.bilevel.problems.linear_model import LinearModel
from shine_exp.bilevel.schedule import Schedule
from shine_exp.loop import Row
from shine_exp.types import Status

LEAST_EPS = 1e-14  # times ‖∇₂G(α₀, θ₀)‖: about what rounding leaves of a gradient


@dataclass(frozen=True)
class Inner:
    """θ ≈ θ*(α) with ‖∇₂G‖ = residual and the outer loss F(θ), and what can be used again next
    time (`carry`).
    """

    theta: Tensor
    outer_value: float
    residual: float
    n_steps: int
    n_evals: int
    status: Status
    carry: dict[str, Tensor]


@dataclass(frozen=True)
class Hypergradient:
    """∇h(α) (k,) or an approximation, the products it cost, and what the next one can use again.

    `solved` says whether the adjoint system was solved to its tolerance; True where the method
    aims at none.
    """

    value: Tensor
    n_products: int
    solved: bool
    carry: dict[str, Tensor]


class Oracle(Protocol):
    """How the inner problem is solved, and how the solution is differentiated."""

    def solve(
        self, problem: LinearModel, state: "DescentState", alpha: Tensor, tol: float, left: int
    ) -> Inner:
        """θ*(alpha) to ‖∇₂G‖ ≤ tol, warm-started from the state; `left` outer steps follow."""
        ...

    def hypergradient(self, problem: LinearModel, state: "DescentState") -> Hypergradient:
        """∇h at the state's α."""
        ...


@dataclass(frozen=True)
class DescentState(State):
    """A state with the step control: curvature L, radius, and the last hypergradient with the α it
    was taken at.
    """

    eps: float = math.nan
    scale: float = math.nan
    curvature: float = math.nan
    radius: float = math.nan
    rejected: tuple[float, float] | None = None  # outer loss and length of the step that was undone
    last: tuple[Tensor, Tensor] | None = None  # α and ∇h(α)


@dataclass(frozen=True)
class Descent(HyperparameterLoop):
    """α ← α − clip(∇h / L, ± radius), clipped to ± bound: HOAG's outer loop (Pedregosa 2016,
    algorithm 1).

    The inner tolerance is ε_t ‖∇₂G(α₀, θ₀)‖, and ε is halved further whenever the warm start meets
    it already, down to `LEAST_EPS`: a step without an inner step would compare nothing.
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

    With `compare`, the trace holds the hypergradient of `gradient_norm` against the true one at
    the same α.
    """

    oracle: Oracle
    schedule: Schedule
    n_steps: PositiveInt = 30
    bound: PositiveFloat = 12.0
    max_radius: PositiveFloat = 1.0
    slack: NonNegativeFloat = 0.3
    compare: bool = False

    needs_gradient = True

    @property
    def columns(self) -> tuple[str, ...]:
        return (*COLUMNS, "true_cosine", "true_norm_ratio") if self.compare else COLUMNS

    def begin(self, problem: LinearModel, seed: int) -> DescentState:
        alpha, theta = start_point(problem, seed)
        scale = first_gradient_norm(problem, alpha, theta)
        return DescentState(
            0, alpha, theta, evals=1, scale=scale, eps=math.inf, radius=self.max_radius
        )

    def restore(self, problem: LinearModel, saved: dict[str, Any]) -> DescentState:
        return DescentState(**saved)

    def measure(self, problem: LinearModel, state: State) -> list[Row]:
        assert isinstance(state, DescentState)
        row = loss_row(problem, state)
        if self.compare and state.last is not None:
            alpha, g = state.last
            truth = true_hypergradient(problem, alpha, state.theta, state.scale)
            row |= {f"true_{name}": value for name, value in compare(g, truth).items()}
        return [row]

    def advance(self, problem: LinearModel, state: State) -> DescentState:
        assert isinstance(state, DescentState)
        settle = state.step == 0 or state.rejected is not None
        state = replace(
            state, step=state.step + 1, eps=min(state.eps, self.schedule(state.step + 1))
        )
        if settle:
            return self._settle(problem, state)
        state = self._differentiate(problem, state)
        if self.diverged(state):
            return state
        assert state.last is not None
        move = (state.last[1] / state.curvature).clamp(-state.radius, state.radius)
        alpha = (state.alpha - move).clamp(-self.bound, self.bound)
        inner, state = self._solve(problem, state, alpha)
        if not inner.outer_value <= state.outer_value * (1 + self.slack * math.sqrt(state.eps)):
            return replace(state, rejected=(inner.outer_value, float(move.abs().max())))
        grown = min(2.0 * state.radius, self.max_radius)
        return replace(_moved(state, inner), alpha=alpha, radius=grown)

    def diverged(self, state: State) -> bool:
        assert isinstance(state, DescentState)
        gradient_norm = 0.0 if state.last is None else state.gradient_norm
        return state.step > 0 and not math.isfinite(state.outer_value + gradient_norm)

    def _settle(self, problem: LinearModel, state: DescentState) -> DescentState:
        """Solve at the current α, for the first time or again after a step that was undone."""
        inner, state = self._solve(problem, state, state.alpha)
        if state.rejected is not None and not state.rejected[0] <= inner.outer_value:
            radius = min(state.radius, 0.5 * state.rejected[1])
            state = replace(state, radius=radius)
        return replace(_moved(state, inner), rejected=None)

    def _solve(
        self, problem: LinearModel, state: DescentState, alpha: Tensor
    ) -> tuple[Inner, DescentState]:
        """The inner solution at alpha to ε‖∇₂G(α₀, θ₀)‖, and the state with its cost counted."""
        while True:
            inner = self.oracle.solve(
                problem, state, alpha, state.eps * state.scale, self.n_steps - state.step
            )
            missed = inner.status is not Status.CONVERGED
            state = replace(
                state,
                inner_steps=state.inner_steps + inner.n_steps,
                evals=state.evals + inner.n_evals,
                unsolved_inner=state.unsolved_inner + missed,
            )
            # Where ∇₂G is exactly 0, no tolerance asks for a step.
            if inner.n_steps > 0 or missed or inner.residual == 0 or state.eps <= LEAST_EPS:
                return inner, state
            state = replace(state, eps=state.eps / 2)

    def _differentiate(self, problem: LinearModel, state: DescentState) -> DescentState:
        hypergradient = self.oracle.hypergradient(problem, state)
        g = hypergradient.value
        return replace(
            state,
            curvature=self._curvature(state, g),
            last=(state.alpha, g),
            gradient_norm=float(g.norm()),
            products=state.products + hypergradient.n_products,
            unsolved_backward=state.unsolved_backward + (not hypergradient.solved),
            carry=state.carry | hypergradient.carry,
        )

    @staticmethod
    def _curvature(state: DescentState, g: Tensor) -> float:
        if state.last is None:
            first = float(g.norm()) / math.sqrt(len(g))
            return first if first >= 1e-3 else 1.0
        moved = state.alpha - state.last[0]
        square = float(moved @ moved)
        if square == 0:
            return state.curvature
        secant = float(moved @ (g - state.last[1])) / square
        return min(max(secant, 0.5 * state.curvature), 1.2 * state.curvature)


def _moved(state: DescentState, inner: Inner) -> DescentState:
    """The state at a new θ, with the tolerance and the residual that belong to it."""
    return replace(
        state,
        theta=inner.theta,
        outer_value=inner.outer_value,
        tol=state.eps * state.scale,
        inner_residual=inner.residual,
        carry=inner.carry,
    )
