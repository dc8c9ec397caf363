"""Black-box search over α: grid, random, and Bayesian. All spend the same budget of warm-started
inner solves.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from shine_exp.bilevel.loop import (
    COLUMNS,
    HyperparameterLoop,
    State,
    first_gradient_norm,
    loss_row,
    start_point,
)
from shine_exp.bilevel.problems.linear_model import LinearModel
from shine_exp.loop import Row
from shine_exp.solvers.objective import Objective
from shine_exp.types import Solver, Status

CLEARLY = 0.1  # of the distance to the best trial: a smaller change leaves the ranking as it is
LEAST_TOL = 1e-14  # times ‖∇₂G(α₀, θ₀)‖: about what rounding leaves of a gradient


class Proposer(Protocol):
    """Where to look next: α (k,) for trial t of n, given the (t, k) points tried and their (t,)
    outer losses.
    """

    def __call__(
        self, tried: np.ndarray, losses: np.ndarray, n: int, bound: float, seed: int
    ) -> np.ndarray: ...


@dataclass(frozen=True)
class SearchState(State):
    """α, θ and outer loss of the best trial; the last trial's θ is where the next one starts."""

    seed: int = 0
    scale: float = math.nan


@dataclass(frozen=True)
class Search(HyperparameterLoop):
    """`n_steps` trials in [−bound, bound]ᵏ, each solved from the last trial's θ until its outer
    loss can be compared.

    A tolerance that is relative to the first gradient says little where features are badly scaled:
    at one α it may be far too loose for F(θ), at another beyond what is needed. So θ is solved to
    ‖∇₂G‖ ≤ 10 tol ‖∇₂G(α₀, θ₀)‖, then to a tenth of that, and on until the last tenth changed F by
    at most `accuracy` |F|, or by at most a tenth of what F lies above the best trial: that one will
    not be chosen. A trial that does not get there counts as unsolved. The trace holds the best
    trial so far, chosen by its outer loss.
    """

    proposer: Proposer
    solver: Solver[Objective]
    n_steps: PositiveInt
    tol: PositiveFloat
    accuracy: PositiveFloat = 1e-3
    bound: PositiveFloat = 12.0

    columns = COLUMNS

    def begin(self, problem: LinearModel, seed: int) -> SearchState:
        alpha, theta = start_point(problem, seed)
        scale = first_gradient_norm(problem, alpha, theta)
        carry = {
            "theta": theta,
            "tried": alpha.new_empty(0, len(alpha)),
            "losses": alpha.new_empty(0),
        }
        return SearchState(0, alpha, theta, evals=1, seed=seed, scale=scale, carry=carry)

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
        trial = self._trial(problem, alpha, state.carry["theta"], state.scale, state.outer_value)
        state = replace(
            state,
            step=state.step + 1,
            inner_steps=state.inner_steps + trial.n_steps,
            evals=state.evals + trial.n_evals,
            unsolved_inner=state.unsolved_inner + (not trial.solved),
            carry={
                "theta": trial.theta if math.isfinite(trial.loss) else state.carry["theta"],
                "tried": torch.cat([tried, alpha[None]]),
                "losses": torch.cat([losses, losses.new_tensor([trial.loss])]),
            },
        )
        if trial.loss < state.outer_value:
            best = replace(state, alpha=alpha, theta=trial.theta, outer_value=trial.loss)
            return replace(best, tol=trial.tol, inner_residual=trial.residual)
        return state

    def _trial(
        self, problem: LinearModel, alpha: Tensor, theta: Tensor, scale: float, best: float
    ) -> "_Trial":
        """θ*(α) to ever smaller tolerances, until its outer loss stands, or is clearly above the
        best.
        """
        objective = problem.inner(alpha)
        inverse, before, n_steps, n_evals = None, math.nan, 0, 0
        tol = 10 * self.tol * scale
        while True:
            solution = self.solver(objective, theta, tol, inverse=inverse)
            theta, inverse = solution.z, solution.estimate
            n_steps, n_evals = n_steps + solution.n_steps, n_evals + solution.n_evals
            loss, _ = problem.outer(theta)
            solved = float(solution.residual) == 0
            if solution.n_steps > 0:  # a tolerance that was met as it was puts no loss to the test
                solved = solved or abs(loss - before) <= max(
                    self.accuracy * abs(loss), CLEARLY * (loss - best)
                )
                before = loss
            met = solution.status is Status.CONVERGED
            if solved or not met or tol <= LEAST_TOL * scale:
                # Settled by a solve that rounding stopped: what was met is the tolerance before.
                tol = 10 * tol if solved and not met else tol
                return _Trial(theta, loss, tol, float(solution.residual), solved, n_steps, n_evals)
            tol = tol / 10


@dataclass(frozen=True)
class _Trial:
    """θ with ‖∇₂G‖ = residual, solved for to `tol`, and its outer loss, which `solved` says
    stands.
    """

    theta: Tensor
    loss: float
    tol: float
    residual: float
    solved: bool
    n_steps: int
    n_evals: int


@dataclass(frozen=True)
class Grid:
    """n equally spaced points from −bound to bound, the same α for every group; from strong to
    weak regularisation.
    """

    def __call__(
        self, tried: np.ndarray, losses: np.ndarray, n: int, bound: float, seed: int
    ) -> np.ndarray:
        return np.full(tried.shape[1], bound * (1 - 2 * len(tried) / max(n - 1, 1)))


@dataclass(frozen=True)
class Random:
    """Uniform in the box, every group by itself (Bergstra & Bengio 2012)."""

    def __call__(
        self, tried: np.ndarray, losses: np.ndarray, n: int, bound: float, seed: int
    ) -> np.ndarray:
        return np.random.default_rng([seed, len(tried)]).uniform(
            -bound, bound, size=(tried.shape[1],)
        )


@dataclass(frozen=True)
class Bayesian:
    """Expected improvement under a Gaussian process (Optuna's `GPSampler`), after `n_random`
    uniform trials.

    The sampler is made anew for each trial, from seed and trials before: a resumed run goes on as
    it would have.
    """

    n_random: PositiveInt

    def __post_init__(self) -> None:
        import optuna  # noqa: F401  # before the clock starts

    def __call__(
        self, tried: np.ndarray, losses: np.ndarray, n: int, bound: float, seed: int
    ) -> np.ndarray:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        names = [f"alpha{j}" for j in range(tried.shape[1])]
        space: dict[str, Any] = dict.fromkeys(
            names, optuna.distributions.FloatDistribution(-bound, bound)
        )
        sampler = optuna.samplers.GPSampler(
            seed=(1000 * seed + len(tried)) % 2**32, n_startup_trials=self.n_random
        )
        study = optuna.create_study(sampler=sampler)
        for point, loss in zip(tried, losses, strict=True):
            params = dict(zip(names, point.tolist(), strict=True))
            study.add_trial(
                optuna.trial.create_trial(params=params, distributions=space, value=float(loss))
            )
        trial = study.ask(space)
        return np.array([trial.params[name] for name in names])
