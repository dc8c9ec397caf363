"""What the loops along an approximate hypergradient have in common.

ε_t from the schedule:  ‖∇_θG(α, θ)‖ ≤ ε_t ‖∇_θG(α₀, θ₀)‖,    then ∇h(α) at that θ
"""

import math
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pydantic import PositiveInt
from torch import Tensor

from shine_exp.bilevel.comparison import compare
from shine_exp.bilevel.hypergradients.exact import exact_hypergradient
from shine_exp.bilevel.hypergradients.hypergradient import Hypergradient, HypergradientMethod
from shine_exp.bilevel.inner_solution import InnerSolution, outer_at, solve_inner
from shine_exp.bilevel.loops.schedule import Schedule
from shine_exp.bilevel.loops.state import COMPARED, BilevelLoop, State, measured_row
from shine_exp.bilevel.problem import BilevelProblem, Moved
from shine_exp.bilevel.soundness import shown
from shine_exp.loop import Row
from shine_exp.solvers.objective import Objective
from shine_exp.types import Solver, Status, take_any_inner_product

# Both are inner tolerances relative to ‖∇_θG(α₀, θ₀)‖. Below LEAST_EPS a gradient is mostly
# rounding. EXACT_TOL is that of the exact hypergradient, with which `compare` compares.
LEAST_EPS = 1e-14
EXACT_TOL = 1e-10


@dataclass(frozen=True)
class GradientState(State):
    """A state with the inner solution at `alpha`, and the last hypergradient.

    `eps` is ε, the inner tolerance relative to `scale` = ‖∇_θG(α₀, θ₀)‖.
    """

    eps: float = math.inf
    scale: float = math.nan
    inner: InnerSolution | None = None
    last: Hypergradient | None = None


G = TypeVar("G", bound=GradientState)


@dataclass(frozen=True)
class GradientLoop(BilevelLoop[G]):
    """A loop of `n_steps` inner solves, at the α that a step along the hypergradient leads to.

    With `compare`, the trace also holds the cosine and the norm ratio of the hypergradient with
    respect to the exact one at the same α, in every `compare_every`-th row.
    """

    solver: Solver[Objective]
    hypergradient: HypergradientMethod
    schedule: Schedule
    n_steps: PositiveInt = 30
    compare: bool = False
    compare_every: PositiveInt = 1

    needs_gradient = True

    @property
    def any_inner_product(self) -> bool:
        return take_any_inner_product(self.solver, self.hypergradient)

    def check(self, problem: BilevelProblem) -> None:
        super().check(problem)
        self.hypergradient.check(problem)

    def columns(self, problem: BilevelProblem) -> tuple[str, ...]:
        columns = super().columns(problem)
        return (*columns, *COMPARED) if self.compare else columns

    def measure(self, problem: BilevelProblem, state: G) -> list[Row]:
        row = measured_row(problem, state)
        is_compared = self.compare and state.step % self.compare_every == 0
        if is_compared and state.last is not None:
            assert state.inner is not None
            tol = EXACT_TOL * state.scale
            exact = exact_hypergradient(problem, state.last.alpha, state.inner.point, tol)
            compared = compare(state.last.value, exact.value)
            row |= {f"exact_{name}": value for name, value in compared.items()}
        return [row]

    def diverged(self, state: G) -> str | None:
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

    def _loaded(self, problem: BilevelProblem, saved: dict[str, Any]) -> dict[str, Any]:
        """What was saved of a state, with its inner solution and its hypergradient."""
        inner = InnerSolution.load(problem, self.solver, saved["inner"])
        last = None if saved["last"] is None else Hypergradient(**saved["last"])
        return saved | {"inner": inner, "last": last}

    def _next(self, state: G) -> G:
        """The state at the beginning of the next step, with its ε."""
        step = state.step + 1
        return replace(state, step=step, eps=min(state.eps, self.schedule(step)))

    def _solve(self, problem: BilevelProblem, state: G, alpha: Tensor) -> tuple[InnerSolution, G]:
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

    def _differentiate(self, problem: BilevelProblem, state: G) -> G:
        """The state with the hypergradient at its α, its cost counted."""
        assert state.inner is not None
        found = self.hypergradient(problem, state.inner, state.eps, state.last)
        return replace(
            state,
            last=found,
            gradient_norm=float(found.value.norm()),
            products=state.products + found.n_products,
            unsolved_backward=state.unsolved_backward + (not found.solved),
        )


def at_solution(state: G, inner: InnerSolution) -> G:
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
