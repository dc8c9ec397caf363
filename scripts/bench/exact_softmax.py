"""The exact optimum of problem=softmax over its penalties, by SciPy alone.

    min over α of F(Θ*(α)),    Θ*(α) = argmin Σ_train ℓ(Θx_i, y_i) + ½ Σ_k e^{α_k} ‖Θ_k‖²

for one penalty (all α_k the same) and for one per class, on the split of each seed. Nothing of the
package but the data and their split is used: the inner problem is solved by SciPy's L-BFGS-B, the
adjoint system by its conjugate gradients, and α is found by L-BFGS-B with that gradient. With
--runs FOLDER it also prints how far the runs of shine-run there end above it.

    python scripts/bench/exact_softmax.py --data 20news_classes --seeds 0 --runs results
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import instantiate
from scipy.optimize import minimize
from scipy.sparse.linalg import LinearOperator, cg
from scipy.special import logsumexp, softmax

from shine_exp.data.multiclass import LabelledRows, MulticlassSplits
from shine_exp.data.stratified import stratified_split
from shine_exp.runs.composition import compose, hydra_for
from shine_exp.runs.run import load_runs

BOUND = 12.0
INNER_TOL = 1e-6  # of the largest entry of ∇G, relative to that at Θ = 0
ADJOINT_TOL = 1e-6  # relative to ‖∇F‖


class Model:
    """Θ (p, K) as a vector, and F with its gradient over α (K,)."""

    def __init__(self, splits: MulticlassSplits) -> None:
        self.splits, self.k = splits, splits.n_classes
        self.theta = np.zeros(splits.train[0].shape[1] * self.k)
        _, gradient = self.loss(splits.train, self.theta)
        self.gtol = INNER_TOL * float(np.abs(gradient).max())

    def loss(self, rows: LabelledRows, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """Σ ℓ and its gradient in θ."""
        x, y = rows
        scores = x @ theta.reshape(-1, self.k)
        slopes = softmax(scores, axis=1)
        slopes[np.arange(len(y)), y] -= 1
        value = logsumexp(scores, axis=1).sum() - scores[np.arange(len(y)), y].sum()
        return float(value), (x.T @ slopes).ravel()

    def solve(self, alpha: np.ndarray) -> None:
        """Move θ to Θ*(α), from where it is."""
        penalty = np.tile(np.exp(alpha), len(self.theta) // self.k)

        def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = self.loss(self.splits.train, theta)
            return value + 0.5 * float(penalty @ theta**2), gradient + penalty * theta

        options = {"maxcor": 30, "maxiter": 5000, "maxfun": 10_000, "gtol": self.gtol, "ftol": 0.0}
        self.theta = minimize(objective, self.theta, jac=True, method="L-BFGS-B", options=options).x

    def outer(self, alpha: np.ndarray) -> tuple[float, np.ndarray]:
        """F and ∇h at α."""
        self.solve(alpha)
        x, _ = self.splits.train
        pi = softmax(x @ self.theta.reshape(-1, self.k), axis=1)
        penalty = np.tile(np.exp(alpha), len(self.theta) // self.k)

        def hessian(v: np.ndarray) -> np.ndarray:
            weighed = pi * (x @ v.reshape(-1, self.k))
            return (x.T @ (weighed - pi * weighed.sum(1, keepdims=True))).ravel() + penalty * v

        value, gradient = self.loss(self.splits.outer, self.theta)
        n = len(self.theta)
        u, _ = cg(LinearOperator((n, n), hessian), gradient, rtol=ADJOINT_TOL, maxiter=2000)
        by_class = (self.theta * u).reshape(-1, self.k).sum(axis=0)
        return value, -np.exp(alpha) * by_class


def optimum(splits: MulticlassSplits, per_class: bool) -> dict[str, Any]:
    """α, and the mean outer and held-out losses there."""
    model = Model(splits)
    ones = np.ones((model.k, 1))
    spread = np.eye(model.k) if per_class else ones  # from the variables to α

    def outer(variables: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = model.outer(spread @ variables)
        return value, spread.T @ gradient

    start = np.full(spread.shape[1], -3.0)
    bounds = [(-BOUND, BOUND)] * len(start)
    options = {"ftol": 1e-6, "gtol": 1e-3, "maxiter": 60}
    found = minimize(outer, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    model.solve(spread @ found.x)
    means = [model.loss(rows, model.theta)[0] / len(rows[1]) for _, rows in splits.parts()]
    return {"alpha": found.x, "outer_loss": means[1], "test_loss": means[2], "n": found.nfev}


def composed(data: str, overrides: list[str]) -> Any:
    with hydra_for() as hydra:
        return compose(hydra, ["problem=softmax", f"data={data}", *overrides])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="20news_classes", help="a data set with classes")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--runs", type=Path, help="a results folder")
    parser.add_argument("overrides", nargs="*", help="as of shine-run: problem.train=0.4")
    options = parser.parse_args()
    config = composed(options.data, options.overrides)
    data = instantiate(config.data)
    n_train, n_outer = (
        round(share * len(data.labels)) for share in (config.problem.train, config.problem.outer)
    )
    print(f"{'seed':>4} {'penalties':>9} {'outer':>9} {'held-out':>9} {'solves':>6}  alpha")
    for seed in options.seeds:
        splits = stratified_split(data, n_train, n_outer, seed)
        for kind, per_class in (("1", False), ("class", True)):
            at = optimum(splits, per_class)
            print(
                f"{seed:4d} {kind:>9} {at['outer_loss']:9.5f} {at['test_loss']:9.5f} {at['n']:6d} ",
                f"{at['alpha'].min():.2f} to {at['alpha'].max():.2f}",
                flush=True,
            )
            for run in load_runs(options.runs) if options.runs else []:
                of_this = (run.info["choices"]["problem"], run.info["choices"]["data"])
                its_kind = str(run.info["differs"].get("problem.penalties", "class"))
                if (*of_this, run.info["seed"], its_kind) != ("softmax", options.data, seed, kind):
                    continue
                outer, test = (run.trace[c].iloc[-1] for c in ("outer_loss", "test_loss"))
                above = 100 * (outer / at["outer_loss"] - 1)
                print(f"     {run.label}: outer {above:+.3f} %, held-out loss {test:.5f}")


if __name__ == "__main__":
    main()
