"""Cost of one accepted L-BFGS step against one pass over the data in each direction.

    python scripts/bench/logreg.py                  synthetic data in the shape of 20newsgroups
    python scripts/bench/logreg.py --data 20news    the real ones (scikit-learn must find them)

The baseline, a pair, is SciPy's X w (CSR) and Xᵀ z (CSC) on the training rows. Beside it: a step of
L-BFGS with a full memory, a product of CG with ∇²_θθG (the backward pass of HOAG), and our own two
passes over the data as the model holds them, with the bytes that they must read per second beside
those of a large copy. All on one thread, in turn, seven times. Prints medians of CPU time, and of
the ratios within a turn; the last line is that of a step.
"""

import argparse

import numpy as np
import pandas as pd
import torch
from linear_measures import (
    bytes_of_passes,
    copy_bandwidth,
    full_memory,
    median_seconds,
    seconds_per_passes,
    seconds_per_product,
    seconds_per_step,
)

from shine_exp.bilevel.problems.linear.logistic import LogisticLoss
from shine_exp.bilevel.problems.linear.merged_columns import merged_columns
from shine_exp.bilevel.problems.linear.model import LinearModel
from shine_exp.data.sets.newsgroups import newsgroups
from shine_exp.data.sets.synthetic import synthetic_text
from shine_exp.data.splits import split

ROUNDS = 7


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=["synthetic", "20news"], default="synthetic")
    parser.add_argument("--memory", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    memory, repeats = arguments.memory, arguments.repeats
    torch.set_num_threads(1)
    if arguments.data == "20news":
        data = newsgroups(data_home=None, scaling="none")
    else:
        data = synthetic_text(18_846, 130_107, 154, seed=0, scaling="none")
    splits = split(data, seed=0)
    (rows, _), (outer, _) = splits.train, splits.outer
    columns = rows.tocsc()
    w, z = np.ones(rows.shape[1]), np.ones(rows.shape[0])
    problem = LinearModel(LogisticLoss(), splits)
    at = full_memory(problem, memory)
    held = rows if problem.writing == "primal" else merged_columns([rows, outer], w)
    measures = {
        "pair": lambda: median_seconds(lambda: (rows @ w, columns.T @ z), repeats),
        "step": lambda: seconds_per_step(problem, at, memory, repeats),
        "product": lambda: seconds_per_product(problem, at, repeats),
        "passes": lambda: seconds_per_passes(held, repeats),
        "copy": lambda: copy_bandwidth(repeats),
    }
    # In turn: on a shared machine, what is measured once is soon out of date.
    rounds = pd.DataFrame(
        [{name: measure() for name, measure in measures.items()} for _ in range(ROUNDS)]
    )
    rounds["bandwidth"] = bytes_of_passes(held) / rounds["passes"]
    ms, gigabytes = 1e3 * rounds.median(), 1e-9 * rounds.median()
    in_pairs = rounds.div(rounds["pair"], axis=0).median()
    share = (rounds["bandwidth"] / rounds["copy"]).median()

    print(f"SciPy X w + Xᵀ z {ms['pair']:8.2f} ms")
    print(f"L-BFGS step      {ms['step']:8.2f} ms   memory {memory}, {problem.writing} coordinates")
    print(f"CG product       {ms['product']:8.2f} ms   {in_pairs['product']:.2f} pairs")
    print(
        f"data passes      {ms['passes']:8.2f} ms   {in_pairs['passes']:.2f} pairs, "
        f"{gigabytes['bandwidth']:.1f} GB/s, {share:.0%} of a copy's {gigabytes['copy']:.1f} GB/s"
    )
    print(f"ratio            {in_pairs['step']:8.2f}")


if __name__ == "__main__":
    main()
