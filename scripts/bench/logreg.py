"""Cost of one accepted L-BFGS step against one pass over the data in each direction.

    python scripts/bench/logreg.py                  synthetic data in the shape of 20newsgroups
    python scripts/bench/logreg.py --data 20news    the real ones (scikit-learn must find them)

The baseline is SciPy's X w (CSR) and Xᵀ z (CSC). All runs on one thread. Prints medians of CPU
time, and their ratio.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from shine_exp.bilevel.problems.linear_model import LinearModel
from shine_exp.bilevel.problems.logistic import LogisticLoss
from shine_exp.data.sets.newsgroups import newsgroups
from shine_exp.data.sets.synthetic import synthetic_text
from shine_exp.data.splits import split
from shine_exp.solvers.lbfgs import LBFGS


def median_ms(work: Callable[[], object], repeats: int) -> float:
    """The median CPU time of `work`, in milliseconds."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(1e3 * (time.process_time() - start))
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=["synthetic", "20news"], default="synthetic")
    parser.add_argument("--memory", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.data == "20news":
        data = newsgroups(data_home=None, scaling="none")
    else:
        data = synthetic_text(18_846, 130_107, 154, seed=0, scaling="none")
    splits = split(data, seed=0)
    rows, _ = splits.train
    columns = rows.tocsc()
    w = np.ones(rows.shape[1])
    z = np.ones(rows.shape[0])
    problem = LinearModel(LogisticLoss(), splits, 1)
    objective = problem.inner(torch.full((1,), -5.0, dtype=torch.float64))
    theta = torch.zeros(rows.shape[1], dtype=torch.float64)
    filled = LBFGS(arguments.memory, max_steps=arguments.memory)(objective, theta, 0.0)

    def steps(n: int) -> Callable[[], object]:
        """n L-BFGS steps with a full memory; each call has an estimate of its own to change."""
        estimates = [filled.estimate.copy() for _ in range(arguments.repeats)]
        solver = LBFGS(arguments.memory, max_steps=n)
        return lambda: solver(objective, filled.z, 0.0, estimate=estimates.pop())

    pair = median_ms(lambda: (rows @ w, columns.T @ z), arguments.repeats)
    # The difference of a long and a short solve leaves out what a solve costs at its start.
    few = median_ms(steps(5), arguments.repeats)
    many = median_ms(steps(25), arguments.repeats)
    step = (many - few) / 20
    print(f"SciPy X w + Xᵀ z {pair:8.2f} ms")
    print(f"L-BFGS step      {step:8.2f} ms   memory {arguments.memory}")
    print(f"ratio            {step / pair:8.2f}")


if __name__ == "__main__":
    main()
