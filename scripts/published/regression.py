"""What faults of the published regression code cost, each beside its correction.

    python scripts/published/regression.py                                     20newsgroups
    python scripts/published/regression.py --data breast_cancer --seeds 0 1    bundled data

The problem is logistic regression, the method SHINE. On 20newsgroups seeds 0 to 9 take 20 to 40
minutes.

1. The outer loop as published: 30 steps of the rule of Pedregosa 2016, with each move applied once
   or twice, and with the inner tolerance ε_t ‖∇_θG(α₀, θ₀)‖ e^(α_{t−1} − α₀) as written or without
   its last factor. Without is what the code does, since there α₀ is another name of α. Shown are
   the outer loss at the end, in % above the lowest end of the seed (shine-run's loop included),
   and the gradient evaluations in all.
2. One solve at α = −5 to 1e-6 of the first gradient, with c₂ = 9e-4 or 0.9 in the line search, and
   H₀ = I or γI. Shown are the steps, and the trials of the line search. Each trial is two passes
   over the data where nothing is kept between them, as in that code.

The numbers are medians over the seeds [lowest, highest].
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from tqdm import tqdm

from shine_exp.bilevel.hypergradients.implicit import Implicit
from shine_exp.bilevel.inner_solution import (
    first_gradient_norm,
    solve_inner,
    start_solution,
)
from shine_exp.bilevel.loops.descent import Descent
from shine_exp.bilevel.loops.schedule import Schedule
from shine_exp.bilevel.problems.linear.logistic import LogisticLoss
from shine_exp.bilevel.problems.linear.model import LinearModel
from shine_exp.data.sets.bundled import breast_cancer
from shine_exp.data.sets.newsgroups import newsgroups
from shine_exp.data.splits import split
from shine_exp.inverse.shine import Shine
from shine_exp.solvers.lbfgs import LBFGS
from shine_exp.solvers.line_search import StrongWolfe
from shine_exp.solvers.objective import Ray

STEPS = 30
MARGIN = 0.25
SOLVER = LBFGS(memory=30)
SHINE = Implicit(Shine())
SCHEDULE = Schedule("exponential", first=1e-3, decrease=0.78)


def published(problem: LinearModel, seed: int, moves: int, *, factor: bool) -> tuple[float, int]:
    """The outer loss at the end and the gradient evaluations of the published loop.

    Each move is `moves` times ∇h / L; with `factor` the tolerance has its factor e^(α − α₀).
    """
    at = start_solution(problem)
    alpha0, scale = at.alpha, first_gradient_norm(at.point)
    outer_value = math.inf
    n_evals = 0
    point = at.point
    lipschitz, length = math.nan, 0.0
    eps, last_eps = SCHEDULE(1), math.nan
    alpha = alpha0
    for _ in range(STEPS):
        tol = eps * scale * (float((alpha - alpha0).exp()) if factor else 1.0)
        # The published solver forgets its pairs: no estimate is passed on.
        inner = solve_inner(problem, SOLVER, alpha, point, tol)
        point = inner.point
        n_evals += inner.n_evals
        slack = MARGIN * eps + last_eps * (MARGIN + 1) * length - lipschitz * length**2
        if inner.outer.value > 1.2 * outer_value:
            # The move is undone, and the old α solved again, more accurately.
            alpha = at.alpha
            lipschitz *= 2
            eps /= 2
            continue
        if inner.outer.value <= outer_value + slack:
            lipschitz *= 0.95
        at, outer_value = inner, inner.outer.value
        gradient = SHINE(problem, at, eps).value
        norm = float(gradient.norm())
        if math.isnan(lipschitz):
            lipschitz = norm if norm >= 1e-3 else 1.0
        alpha = problem.project(alpha - moves * gradient / lipschitz)
        length = norm / lipschitz
        last_eps, eps = eps, eps * SCHEDULE.decrease
    return outer_value, n_evals


def ours(problem: LinearModel, seed: int) -> tuple[float, int]:
    """The outer loss at the end and the gradient evaluations of shine-run's loop."""
    loop = Descent(SOLVER, SHINE, SCHEDULE, n_steps=STEPS)
    state = loop.init(problem, seed)
    for _ in range(STEPS):
        state = loop.step(problem, state)
    return state.outer_value, state.evals


def outer_loops(problem: LinearModel, seed: int) -> dict[str, tuple[float, float]]:
    """How far each loop ends above the lowest end, in %, and its evaluations."""
    ends = {
        "shine-run's": ours(problem, seed),
        "published, one move, the factor": published(problem, seed, 1, factor=True),
        "published, one move, no factor": published(problem, seed, 1, factor=False),
        "published, two moves, the factor": published(problem, seed, 2, factor=True),
        "published, both faults": published(problem, seed, 2, factor=False),
    }
    best = min(value for value, _ in ends.values())
    return {name: (100 * (value / best - 1), n_evals) for name, (value, n_evals) in ends.items()}


@dataclass(frozen=True)
class CountedWolfe(StrongWolfe):
    """The line search, which also keeps the trials that it made."""

    trials: list[float] = field(default_factory=list)

    def __call__(self, ray: Ray, value: float, slope: float, t: float = 1.0) -> float | None:
        def counted(t: float) -> tuple[float, float]:
            self.trials.append(t)
            return ray(t)

        return super().__call__(counted, value, slope, t)


def one_solve(problem: LinearModel, seed: int) -> dict[str, tuple[float, float]]:
    """The steps and the trials of each solve."""
    alpha0, theta = problem.start()
    objective = problem.inner(torch.full_like(alpha0, -5.0))
    tol = 1e-6 * float(objective(theta).gradient.norm())
    found = {}
    for name, initial, c2 in (
        ("H₀ = γI, c₂ = 0.9", "scaled", 0.9),
        ("H₀ = γI, c₂ = 9e-4", "scaled", 9e-4),
        ("H₀ = I, c₂ = 0.9", "identity", 0.9),
        ("H₀ = I, c₂ = 9e-4", "identity", 9e-4),
    ):
        search = CountedWolfe(c2=c2)
        solution = LBFGS(30, initial, 10_000, line_search=search)(objective, theta, tol)
        found[name] = float(solution.n_steps), float(len(search.trials))
    return found


def table(
    title: str, columns: tuple[str, str], found: Sequence[Mapping[str, tuple[float, float]]]
) -> None:
    print(f"{title:36}" + "".join(f"{column:>30}" for column in columns))
    for name in found[0]:
        columns_of_name = zip(*(of_seed[name] for of_seed in found), strict=True)
        cells = (np.quantile(values, [0.5, 0, 1]) for values in columns_of_name)
        print(
            f"  {name:34}"
            + "".join(f"{f'{m:.4g}  [{low:.3g}, {high:.4g}]':>30}" for m, low, high in cells)
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=["20news", "breast_cancer"], default="20news")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = newsgroups("none") if options.data == "20news" else breast_cancer("standard", 1.0)
    problems = {seed: LinearModel(LogisticLoss(), split(data, seed), 1) for seed in options.seeds}
    ends = [
        outer_loops(problem, seed)
        for seed, problem in tqdm(problems.items(), unit="seed", disable=None)
    ]
    table("1. outer loop", ("% above the lowest end", "evaluations"), ends)
    table(
        "2. one solve",
        ("steps", "trials"),
        [one_solve(problem, seed) for seed, problem in problems.items()],
    )


if __name__ == "__main__":
    main()
