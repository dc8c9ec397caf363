"""The exact optimum of the outer problem on 20newsgroups, by scikit-learn and SciPy alone.

    python scripts/bench/exact_optimum.py --seeds 0 1 2     α*, outer and held-out loss there (sums)
    python scripts/bench/exact_optimum.py --runs results    how far from it default runs ended, in %

It is a judge of our solvers, of which it uses none. Newton-CG fits the model at six values of α,
then in a bounded scalar search between the neighbours of the best: some 15 fits a seed.
"""

import argparse
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression

from shine_exp.data.sets.newsgroups import newsgroups
from shine_exp.data.splits import Rows, Splits, split
from shine_exp.runs.run import load_runs

GRID = (-3.0, -4.0, -5.0, -6.0, -7.0, -8.0)


def loss(model: LogisticRegression, rows: Rows) -> float:
    """Σ log(1 + exp(−y xᵀθ))."""
    x, y = rows
    return float(np.logaddexp(0, -y * (x @ model.coef_.ravel())).sum())


def optimum(splits: Splits) -> tuple[float, float, float]:
    """α* to 1e-3, and the outer and the held-out loss there.

    Raises `ValueError` where α* lies outside the grid.
    """
    # Each fit starts from the last one, and keeps something of it: near α* this changes the outer
    # loss by 1e-8 at this `tol`, where a step of 1e-3 in α changes it by 4e-6.
    model = LogisticRegression(
        fit_intercept=False, solver="newton-cg", tol=1e-11, max_iter=500, warm_start=True
    )

    def outer(alpha: float) -> float:
        model.C = np.exp(-alpha)
        model.fit(*splits.train)
        return loss(model, splits.outer)

    best = int(np.argmin([outer(alpha) for alpha in GRID]))
    if best in (0, len(GRID) - 1):
        raise ValueError(f"the best α, {GRID[best]}, is at the end of the grid")
    bounds = (GRID[best + 1], GRID[best - 1])
    alpha = minimize_scalar(outer, bounds=bounds, method="bounded", options={"xatol": 1e-3}).x
    return float(alpha), outer(alpha), loss(model, splits.test)


def last_losses(results: Path) -> dict[str, dict[int, float]]:
    """The last outer loss (a sum) of each default run, by method and seed."""
    ends: dict[str, dict[int, float]] = {}
    for run in load_runs(results):
        choices = run.info["choices"]
        if (choices["problem"], choices["data"], run.info["differs"]) == ("logreg", "20news", {}):
            last = float(run.trace["outer_loss"].iloc[-1]) * run.info["n_outer"]
            ends.setdefault(choices["method"], {})[run.info["seed"]] = last
    return ends


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--runs", type=Path, help="a results folder")
    options = parser.parse_args()
    ends = last_losses(options.runs) if options.runs else {}
    data = newsgroups(data_home=None, scaling="none")
    print(
        f"{'seed':>4} {'alpha':>8} {'outer':>9} {'held-out':>9} ",
        "".join(f"{method:>11}" for method in ends),
    )
    for seed in options.seeds:
        alpha, outer, held_out = optimum(split(data, seed))
        above = (
            f"{100 * (end[seed] / outer - 1):+11.3f}" if seed in end else f"{'–':>11}"
            for end in ends.values()
        )
        print(f"{seed:4d} {alpha:8.3f} {outer:9.3f} {held_out:9.3f} ", "".join(above), flush=True)


if __name__ == "__main__":
    main()
