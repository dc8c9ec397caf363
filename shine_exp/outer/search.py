"""Black-box search over α: grid, random, and Bayesian. All spend the same budget of warm-started inner solves."""

import math
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from pydantic import PositiveFloat, PositiveInt

from shine_exp.outer.loop import COLUMNS, HyperparameterLoop, State, loss_row, start_point
from shine_exp.problems.linear_model import LinearModel
from shine_exp.solvers.objective import Objective
from shine_exp.trace import Row
from shine_exp.types import Solver


class Proposer(Protocol):
    """Where to look next: α (k,) for trial t of n, given the (t, k) points tried and their (t,) outer losses."""

    def __call__(self, tried: np.ndarray, losses: np.ndarray, n: int, bound: float, seed: int) -> np.ndarray: ...


@dataclass(frozen=True)
class SearchState(State):
    """α, θ and outer loss of the best trial; the last trial's θ is where the next one starts."""

    seed: int = 0
    scale: float = math.nan


@dataclass(frozen=True)
class Search(HyperparameterLoop):
    """`n_steps` trials in [−bound, bound]ᵏ, each solved to ‖∇₂G‖ ≤ tol ‖∇₂G(α₀, θ₀)‖ from the last trial's θ.

    The trace holds the best trial so far, chosen by its outer loss.
    """

    proposer: Proposer
    solver: Solver[Objective]
    n_steps: PositiveInt
    tol: PositiveFloat
    bound: PositiveFloat = 12.0

    columns = COLUMNS

    def begin(self, problem: LinearModel, seed: int) -> SearchState:
        alpha, theta = start_point(problem, seed)
        scale = float(problem.inner(alpha)(theta).gradient.norm())
        carry = {"theta": theta, "tried": alpha.new_empty(0, len(alpha)), "losses": alpha.new_empty(0)}
        return SearchState(0, alpha, theta, seed=seed, scale=scale, carry=carry)

    def restore(self, problem: LinearModel, saved: dict[str, Any]) -> SearchState:
        return SearchState(**saved)

    def measure(self, problem: LinearModel, state: State) -> list[Row]:
        return [loss_row(problem, state)]

    def diverged(self, state: State) -> bool:
        """Every trial did; a single one that does is no better than others."""
        return state.step == self.n_steps and not math.isfinite(state.outer_value)

    def advance(self, problem: LinearModel, state: State) -> SearchState:
        assert isinstance(state, SearchState)
        tried, losses = state.carry["tried"], state.carry["losses"]
        proposal = self.proposer(
            tried.numpy(force=True), losses.numpy(force=True), self.n_steps, self.bound, state.seed
        )
        alpha = torch.as_tensor(proposal).to(tried)
        tol = self.tol * state.scale
        solution = self.solver(problem.inner(alpha), state.carry["theta"], tol)
        loss, _ = problem.outer(solution.z)
        state = replace(
            state,
            step=state.step + 1,
            inner_steps=state.inner_steps + solution.n_steps,
            evals=state.evals + solution.n_evals,
            tol=tol,
            carry={
                "theta": solution.z,
                "tried": torch.cat([tried, alpha[None]]),
                "losses": torch.cat([losses, losses.new_tensor([loss])]),
            },
        )
        if loss < state.outer_value:
            return replace(state, alpha=alpha, theta=solution.z, outer_value=loss)
        return state


@dataclass(frozen=True)
class Grid:
    """n equally spaced points from −bound to bound, the same α for every group; from strong to weak regularisation."""

    def __call__(self, tried: np.ndarray, losses: np.ndarray, n: int, bound: float, seed: int) -> np.ndarray:
        return np.full(tried.shape[1], bound * (1 - 2 * len(tried) / max(n - 1, 1)))


@dataclass(frozen=True)
class Random:
    """Uniform in the box, every group by itself (Bergstra & Bengio 2012)."""

    def __call__(self, tried: np.ndarray, losses: np.ndarray, n: int, bound: float, seed: int) -> np.ndarray:
        return np.random.default_rng([seed, len(tried)]).uniform(-bound, bound, size=(tried.shape[1],))


@dataclass(frozen=True)
class Bayesian:
    """Expected improvement under a Gaussian process (Optuna's `GPSampler`), after `n_random` uniform trials.

    The sampler is made anew for each trial, from seed and trials before: a resumed run goes on as it would have.
    """

    n_random: PositiveInt

    def __post_init__(self) -> None:
        import optuna  # noqa: F401  # before the clock starts

    def __call__(self, tried: np.ndarray, losses: np.ndarray, n: int, bound: float, seed: int) -> np.ndarray:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        names = [f"alpha{j}" for j in range(tried.shape[1])]
        space: dict[str, Any] = dict.fromkeys(names, optuna.distributions.FloatDistribution(-bound, bound))
        sampler = optuna.samplers.GPSampler(seed=(1000 * seed + len(tried)) % 2**32, n_startup_trials=self.n_random)
        study = optuna.create_study(sampler=sampler)
        for point, loss in zip(tried, losses, strict=True):
            params = dict(zip(names, point.tolist(), strict=True))
            study.add_trial(optuna.trial.create_trial(params=params, distributions=space, value=float(loss)))
        trial = study.ask(space)
        return np.array([trial.params[name] for name in names])
