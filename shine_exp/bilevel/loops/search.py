"""Black-box search over α: on a grid, at random, or by Bayesian optimisation.

All spend the same number of inner solves, each of which starts from the θ of the last one.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from shine_exp.bilevel.inner_solution import first_gradient_norm, solve_inner
from shine_exp.bilevel.loops.state import BilevelLoop, State, measured_row
from shine_exp.bilevel.problem import BilevelProblem
from shine_exp.bilevel.soundness import box
from shine_exp.errors import UserError
from shine_exp.loop import Row
from shine_exp.randomness import generator
from shine_exp.solvers.objective import Objective
from shine_exp.types import Solver, Status, take_any_inner_product

# A change of F by less than this share of what it lies above the best trial leaves the ranking of
# the two as it is.
CLEARLY = 0.1
# The least tolerance, relative to ‖∇_θG(α₀, θ₀)‖: below it, a gradient is mostly rounding.
LEAST_TOL = 1e-14
NOTHING = torch.empty(0)


@dataclass(frozen=True)
class Trials:
    """What a proposer knows when it is asked for the next of `n` points.

    These are the `points` tried so far (t, k), their outer `losses` (t,), the bounds `lower` and
    `upper` (k,) of the box, and the seed of the run.
    """

    points: np.ndarray
    losses: np.ndarray
    n: int
    lower: np.ndarray
    upper: np.ndarray
    seed: int


class Proposer(Protocol):
    """A way to choose where to look next: α (k,)."""

    def __call__(self, trials: Trials) -> np.ndarray: ...


@dataclass(frozen=True)
class SearchState(State):
    """α, θ and outer loss of the best trial, with the α and outer loss of all.

    `points` (t, k) and `losses` (t,) hold all trials. `last_theta` is where the next trial starts,
    and `scale` is ‖∇_θG(α₀, θ₀)‖.
    """

    seed: int = 0
    scale: float = math.nan
    last_theta: Tensor = NOTHING
    points: Tensor = NOTHING
    losses: Tensor = NOTHING


@dataclass(frozen=True)
class Search(BilevelLoop[SearchState]):
    """`n_steps` trials in the problem's box, each solved until its outer loss can be compared.

    A trial starts from the θ of the last one. It is solved to ‖∇_θG‖ ≤ 10 tol ‖∇_θG(α₀, θ₀)‖, then
    to a tenth of that, and so on, until the last tenth changed F by at most `accuracy` |F|, or by
    at most a tenth of what F lies above the best trial: then this one will not be chosen. A trial
    that does not get there counts as unsolved. One tolerance for all trials would say little where
    features are badly scaled: at one α it may be far too loose for F, and at another far beyond
    what is needed. The trace holds the best trial so far, chosen by its outer loss.
    """

    proposer: Proposer
    solver: Solver[Objective]
    n_steps: PositiveInt
    tol: PositiveFloat
    accuracy: PositiveFloat = 1e-3

    @property
    def any_inner_product(self) -> bool:
        return take_any_inner_product(self.solver)

    def check(self, problem: BilevelProblem) -> None:
        """Raises `UserError` for what is no problem, or has no finite box."""
        super().check(problem)
        alpha, _ = problem.start()
        if not all(bound.isfinite().all() for bound in box(problem, alpha)):
            raise UserError(
                f"a search needs a box to search in, and the bounds of {type(problem).__name__} "
                "are not finite: give it a lower and an upper, or take a method with a gradient"
            )

    def init(self, problem: BilevelProblem, seed: int) -> SearchState:
        alpha, theta = problem.start()
        objective = problem.inner(alpha)
        scale = first_gradient_norm(objective(theta))
        return SearchState(
            0,
            alpha,
            theta,
            evals=objective.n_evals,
            seed=seed,
            scale=scale,
            last_theta=theta,
            points=alpha.new_empty(0, alpha.numel()),
            losses=alpha.new_empty(0),
        )

    def load_state_dict(self, problem: BilevelProblem, saved: dict[str, Any]) -> SearchState:
        return SearchState(**saved)

    def measure(self, problem: BilevelProblem, state: SearchState) -> list[Row]:
        return [measured_row(problem, state)]

    def diverged(self, state: SearchState) -> str | None:
        """Whether all trials have; a single one that diverges is merely not chosen."""
        if state.step < self.n_steps or math.isfinite(state.outer_value):
            return None
        return f"the inner or the outer loss is nan or infinite at all {state.step} α that it tried"

    def step(self, problem: BilevelProblem, state: SearchState) -> SearchState:
        alpha = self._proposal(problem, state)
        trial = self._trial(problem, alpha, state)
        state = replace(
            state,
            step=state.step + 1,
            inner_steps=state.inner_steps + trial.n_steps,
            evals=state.evals + trial.n_evals,
            unsolved_inner=state.unsolved_inner + (not trial.solved),
            last_theta=trial.theta if math.isfinite(trial.loss) else state.last_theta,
            points=torch.cat([state.points, alpha.reshape(1, -1)]),
            losses=torch.cat([state.losses, state.losses.new_tensor([trial.loss])]),
        )
        if trial.loss < state.outer_value:
            best = replace(state, alpha=alpha, theta=trial.theta, outer_value=trial.loss)
            return replace(best, tol=trial.tol, inner_residual=trial.residual)
        return state

    def _proposal(self, problem: BilevelProblem, state: SearchState) -> Tensor:
        lower, upper = (bound.numpy(force=True) for bound in box(problem, state.alpha))
        points, losses = (t.numpy(force=True) for t in (state.points, state.losses))
        trials = Trials(points, losses, self.n_steps, lower, upper, state.seed)
        return torch.as_tensor(self.proposer(trials)).to(state.alpha).reshape(state.alpha.shape)

    def _trial(self, problem: BilevelProblem, alpha: Tensor, state: SearchState) -> "_Trial":
        """Solve for θ*(α) to ever smaller tolerances, until F stands or is clearly too high."""
        point = problem.inner(alpha)(state.last_theta)
        estimate = None
        before = math.nan  # F at the last tolerance; at the first, NaN, which is close to nothing
        n_steps = n_evals = 0
        tol = 10 * self.tol * state.scale
        while True:
            inner = solve_inner(problem, self.solver, alpha, point, tol, estimate)
            point = inner.point
            estimate = inner.estimate if self.solver.uses_estimate else None
            n_steps += inner.n_steps
            n_evals += inner.n_evals
            # Where G is not finite, θ may lie where it lay, and F says nothing of α.
            loss = math.nan if inner.status is Status.DIVERGED else inner.outer.value
            solved = inner.residual == 0
            # A tolerance that was met without a step leaves θ as it is: that F then stays as it is
            # says nothing.
            if inner.n_steps > 0:
                above_best = CLEARLY * (loss - state.outer_value)
                allowed = max(self.accuracy * abs(loss), above_best)
                solved = solved or abs(loss - before) <= allowed
                before = loss
            met = inner.status is Status.CONVERGED
            if solved or not met or tol <= LEAST_TOL * state.scale:
                # Where F stands after a solve that rounding stopped, the tolerance that was met is
                # the one before.
                tol = 10 * tol if solved and not met else tol
                return _Trial(inner.theta, loss, tol, inner.residual, solved, n_steps, n_evals)
            tol = tol / 10


@dataclass(frozen=True)
class _Trial:
    """θ (d,) with ‖∇_θG‖ = `residual` after a solve to `tol`, and F there, its `loss`.

    `solved` says whether F is known well enough to be compared.
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
    """n equally spaced points on the diagonal of the box: the same share for every entry of α.

    They go from the upper end, which is strong regularisation in the regressions, to the lower.
    """

    def __call__(self, trials: Trials) -> np.ndarray:
        share = len(trials.points) / max(trials.n - 1, 1)
        point: np.ndarray = trials.upper + share * (trials.lower - trials.upper)
        return point


@dataclass(frozen=True)
class Random:
    """Uniform in the box, each entry of α drawn by itself (Bergstra & Bengio 2012)."""

    def __call__(self, trials: Trials) -> np.ndarray:
        drawn = generator(trials.seed, len(trials.points))
        share = torch.rand(len(trials.lower), dtype=torch.float64, generator=drawn).numpy()
        point: np.ndarray = trials.lower + share * (trials.upper - trials.lower)
        return point


@dataclass(frozen=True)
class Bayesian:
    """Expected improvement under a Gaussian process, after `n_random` uniform trials.

    This is Optuna's `GPSampler`. It is made anew for each trial, from the seed and the trials
    before it, so that a resumed run goes on as the interrupted one would have.
    """

    n_random: PositiveInt

    def __post_init__(self) -> None:
        # Imported here and not above, as it takes long and few runs need it; and not only in
        # __call__, so that it happens before the clock starts.
        import optuna  # noqa: F401

    def __call__(self, trials: Trials) -> np.ndarray:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        space: dict[str, Any] = {
            f"alpha{j}": optuna.distributions.FloatDistribution(float(lower), float(upper))
            for j, (lower, upper) in enumerate(zip(trials.lower, trials.upper, strict=True))
        }
        seed = generator(trials.seed, len(trials.points)).initial_seed()
        sampler = optuna.samplers.GPSampler(seed=seed, n_startup_trials=self.n_random)
        study = optuna.create_study(sampler=sampler)
        # Optuna takes no NaN: a trial that diverged counts as the worst of the others.
        worst = max(trials.losses[np.isfinite(trials.losses)], default=0.0)
        losses = np.where(np.isfinite(trials.losses), trials.losses, worst)
        for point, loss in zip(trials.points, losses, strict=True):
            params = dict(zip(space, point.tolist(), strict=True))
            study.add_trial(
                optuna.trial.create_trial(params=params, distributions=space, value=float(loss))
            )
        trial = study.ask(space)
        return np.array([trial.params[name] for name in space])
