"""The table of all 125 networks of problem=architecture, each trained by itself.

    python scripts/bench/network_table.py mine.csv --seeds 0 1 2 3 4     4 minutes a seed
    python scripts/bench/network_table.py mine.csv problem.width=6       of another setting

Every network is the supernet with one operation on each edge, minimised from its θ₀ by L-BFGS. A
row is written when its network is done, and networks that are there already are left out, so that
the same command goes on where it was stopped. `problem.table=mine.csv` reads the file.
"""

import argparse
from pathlib import Path

from shine_exp.bilevel.inner_solution import solve_inner
from shine_exp.bilevel.problems.architecture.network_table import (
    COLUMNS,
    Choice,
    choices,
    one_hot,
    read_rows,
    simplest,
    write_row,
)
from shine_exp.bilevel.problems.architecture.problem import Architecture
from shine_exp.bilevel.problems.autodiff import AutodiffProblem
from shine_exp.runs.composition import compose, hydra_for, separated
from shine_exp.runs.problem import load
from shine_exp.solvers.lbfgs import LBFGS

TOL = 1e-5  # of ‖∇_θG‖, relative to the first


def train(problem: Architecture, choice: Choice) -> tuple[float, float]:
    """The outer loss and the held-out accuracy of one network at its own θ*."""
    mixture = one_hot(choice)
    alone = AutodiffProblem(
        problem.training_loss,
        lambda mixture, theta: problem.cross_entropy(mixture, theta, problem.outer_rows),
        mixture,
        problem.theta0,
    )
    start = alone.inner(mixture)(alone.start()[1])
    tol = TOL * float(start.gradient.norm())
    at = solve_inner(alone, LBFGS(memory=60, max_steps=5000), mixture, start, tol)
    _, theta = alone.as_given(mixture, at.theta)
    return at.outer.value, problem.accuracy(mixture, theta)


def made(seed: int, overrides: list[str]) -> Architecture:
    """The problem that `shine-run problem=architecture` has with these overrides."""
    ours = ["problem=architecture", "problem.table=false", "problem.price=0", f"seed={seed}"]
    with hydra_for() as hydra:
        config = separated(compose(hydra, [*ours, *overrides])).config
    problem, _ = load(config)
    return problem


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", type=Path, help="a CSV file, made or added to")
    parser.add_argument("overrides", nargs="*", help="as shine-run takes them")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    options = parser.parse_args()
    if not options.table.exists():
        options.table.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    for seed in options.seeds:
        problem = made(seed, options.overrides)
        known = read_rows(options.table, problem.setting)
        for choice in choices():
            if choice in known:
                continue
            same = simplest(choice)  # comes before it, where it is another
            known[choice] = known[same] if same in known else train(problem, choice)
            with options.table.open("a", encoding="utf-8") as file:
                write_row(file, problem.setting, choice, *known[choice])


if __name__ == "__main__":
    main()
