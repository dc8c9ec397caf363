"""The exact optimum of the outer problem on 20newsgroups, by scikit-learn and SciPy alone: a judge for our solvers.

    python scripts/exact_optimum.py --seeds 0 1 2      prints α*, the outer loss there and the held-out loss (sums)

Newton-CG to a gradient of about 1e-5 (sum of losses) inside a bounded scalar search over α, some ten fits a seed.
"""

import argparse

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression

from shine_exp.data.newsgroups import newsgroups
from shine_exp.data.splits import Rows, Splits, split


def loss(model: LogisticRegression, rows: Rows) -> float:
    """Σ log(1 + exp(−y xᵀθ))."""
    x, y = rows
    return float(np.logaddexp(0, -y * (x @ model.coef_.ravel())).sum())


def optimum(splits: Splits, bounds: tuple[float, float]) -> tuple[float, float, float]:
    """α*, outer loss and held-out loss."""
    model = LogisticRegression(fit_intercept=False, solver="newton-cg", tol=1e-9, max_iter=500, warm_start=True)

    def outer(alpha: float) -> float:
        model.C = np.exp(-alpha)
        model.fit(*splits.train)
        return loss(model, splits.outer)

    alpha = minimize_scalar(outer, bounds=bounds, method="bounded", options={"xatol": 1e-3}).x
    return float(alpha), outer(alpha), loss(model, splits.test)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    data = newsgroups(data_home=None, scaling="none")
    print(f"{'seed':>4} {'alpha':>8} {'outer':>9} {'held-out':>9}")
    for seed in parser.parse_args().seeds:
        alpha, outer, held_out = optimum(split(data, seed), (-8.0, -3.0))
        print(f"{seed:4d} {alpha:8.3f} {outer:9.3f} {held_out:9.3f}", flush=True)


if __name__ == "__main__":
    main()
