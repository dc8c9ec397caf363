"""Adam on α: a step per coordinate, for many outer variables."""

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from annotated_types import Interval
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from shine_exp.bilevel.inner_solution import first_gradient_norm, start_solution
from shine_exp.bilevel.loops.gradient_loop import GradientLoop, GradientState, at_solution
from shine_exp.bilevel.problem import BilevelProblem

# The ε of Kingma and Ba, relative to the largest √v̂: as an absolute number it would depend on the
# units of F.
EPSILON = 1e-8
NOTHING = torch.empty(0)


@dataclass(frozen=True)
class AdamState(GradientState):
    """A state with m and v, in the shape of α: the means of the hypergradient and of its square."""

    mean: Tensor = NOTHING
    square: Tensor = NOTHING


@dataclass(frozen=True)
class Adam(GradientLoop[AdamState]):
    """α ← P(α − η_t m̂ / (√v̂ + ε)), entry by entry (Kingma & Ba 2015, algorithm 1).

        m ← β₁ m + (1 − β₁) ∇h,  m̂ = m / (1 − β₁ᵗ),    v ← β₂ v + (1 − β₂) ∇h²,  v̂ = v / (1 − β₂ᵗ)

    P projects onto the feasible set of α. The first step solves at α₀. The rate η_t then falls from
    `learning_rate` to `final_learning_rate` along a cosine (Loshchilov & Hutter 2017, eq. 5).

    No entry moves by much more than η_t, however wrong the length of the hypergradient. Only signs
    and proportions along the run matter, and no step is judged by the outer loss or undone: where
    α has many entries, a loss that is known to a tolerance says little of each.
    """

    learning_rate: PositiveFloat = 0.3
    final_learning_rate: NonNegativeFloat = 0.0
    beta1: Annotated[float, Interval(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Interval(ge=0, lt=1)] = 0.999

    def init(self, problem: BilevelProblem, seed: int) -> AdamState:
        inner = start_solution(problem, seed)
        return AdamState(
            0,
            inner.alpha,
            inner.theta,
            evals=inner.n_evals,
            scale=first_gradient_norm(inner.point),
            inner=inner,
            mean=torch.zeros_like(inner.alpha),
            square=torch.zeros_like(inner.alpha),
        )

    def load_state_dict(self, problem: BilevelProblem, saved: dict[str, Any]) -> AdamState:
        return AdamState(**self._loaded(problem, saved))

    def step(self, problem: BilevelProblem, state: AdamState) -> AdamState:
        first = state.step == 0
        state = self._next(state)
        alpha = state.alpha
        if not first:
            state = self._differentiate(problem, state)
            if self.diverged(state):
                return state
            state = self._averaged(state)
            alpha = problem.project(alpha - self._rate(state.step) * self._direction(state))
        inner, state = self._solve(problem, state, alpha)
        return at_solution(state, inner)

    def _averaged(self, state: AdamState) -> AdamState:
        """m and v with the last hypergradient in them."""
        assert state.last is not None
        gradient = state.last.value
        return replace(
            state,
            mean=self.beta1 * state.mean + (1 - self.beta1) * gradient,
            square=self.beta2 * state.square + (1 - self.beta2) * gradient**2,
        )

    def _direction(self, state: AdamState) -> Tensor:
        """m̂ / (√v̂ + ε), in the shape of α."""
        n_averaged = state.step - 1
        mean = state.mean / (1 - self.beta1**n_averaged)
        root = (state.square / (1 - self.beta2**n_averaged)).sqrt()
        tiny = torch.finfo(root.dtype).tiny  # where all hypergradients were 0
        return mean / (root + EPSILON * root.max()).clamp_min(tiny)

    def _rate(self, step: int) -> float:
        """η of a step, of which the first that moves α is the second."""
        share = (step - 2) / max(self.n_steps - 2, 1)
        fall = self.learning_rate - self.final_learning_rate
        return self.final_learning_rate + 0.5 * fall * (1 + math.cos(math.pi * share))
