"""Seconds to a good α on 20newsgroups: SHINE and HOAG beside searches around scikit-learn.

    python scripts/bench/peers.py                                   20newsgroups, seeds 0 to 9
    python scripts/bench/peers.py --data synthetic_text --seeds 0   made data: takes seconds

All contenders see the same splits, and α in [−12, 12]. `shine` and `cg` (HOAG) are `shine-run`'s,
with its default settings. The peers fit scikit-learn's `LogisticRegression` at each α that a
search asks for: SciPy's bounded scalar search (to 0.01), or a grid (25 values, from strong to weak
regularisation). The fits are by scikit-learn's default, L-BFGS, each from the last one's solution,
to its default tolerance of 1e-4 or to 1e-6; or by LIBLINEAR in the dual, which is made for text.
Each contender first runs on bundled data, off the clock, to pay for what is done once in a process.

The table shows seconds of CPU time, on one thread, until a contender's outer loss is, and stays,
within 1 % or 0.1 % of the lowest that any contender ends with on that seed; a search counts as
being at its best fit so far. The numbers are medians over the seeds that get there [lowest,
highest]. `end` is how far above that lowest loss a contender ends, in %.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate

import numpy as np
import torch
from exact_optimum import loss
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig
from scipy.optimize import minimize_scalar
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from shine_exp.bilevel.problems.linear_model import LinearModel
from shine_exp.bilevel.problems.logistic import LogisticLoss
from shine_exp.data.splits import Splits, split
from shine_exp.runs.composition import CONFIG_DIR

BOUND = 12.0
VALUES = 25
SHARES = (0.01, 0.001)

# CPU seconds so far and outer loss, after each step or fit.
Curve = list[tuple[float, float]]
# α ↦ h(α)
Outer = Callable[[float], float]


def configured(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("config", list(overrides))


def ours(method: str) -> Callable[[Splits, int], Curve]:
    """The contender that is `shine-run method=…`."""

    def descend(splits: Splits, seed: int) -> Curve:
        loop = instantiate(configured(f"method={method}").outer)
        problem = LinearModel(LogisticLoss(), splits)
        begin, curve = time.process_time(), []
        state = loop.init(problem, seed)
        for _ in range(loop.n_steps):
            state = loop.step(problem, state)
            curve.append((time.process_time() - begin, state.outer_value))
        return curve

    return descend


def bounded(outer: Outer) -> None:
    minimize_scalar(outer, bounds=(-BOUND, BOUND), method="bounded", options={"xatol": 0.01})


def grid(outer: Outer) -> None:
    for alpha in np.linspace(BOUND, -BOUND, VALUES):
        outer(float(alpha))


def peer(search: Callable[[Outer], None], **fit: object) -> Callable[[Splits, int], Curve]:
    """The contender that is a search around `LogisticRegression(**fit)`."""

    def run(splits: Splits, seed: int) -> Curve:
        # Where regularisation is weak, no fit converges in time.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(fit_intercept=False, max_iter=1000, **fit)
        begin, curve = time.process_time(), []

        def outer(alpha: float) -> float:
            model.C = np.exp(-alpha)
            model.fit(*splits.train)
            value = loss(model, splits.outer)
            curve.append((time.process_time() - begin, value))
            return value

        search(outer)
        times, losses = zip(*curve, strict=True)
        return list(zip(times, accumulate(losses, min), strict=True))

    return run


LBFGS = {"warm_start": True}
LIBLINEAR = {"solver": "liblinear", "dual": True, "random_state": 0}
CONTENDERS = {
    "shine": ours("shine"),
    "cg (HOAG)": ours("cg"),
    "L-BFGS, bounded search": peer(bounded, **LBFGS),
    "L-BFGS to 1e-6, bounded": peer(bounded, **LBFGS, tol=1e-6),
    "LIBLINEAR, bounded search": peer(bounded, **LIBLINEAR),
    "LIBLINEAR, grid": peer(grid, **LIBLINEAR),
}


def seconds(curve: Curve, best: float, share: float) -> float | None:
    """The time from which on the loss stays within this share of the best, above or below."""
    reached = None
    for time_so_far, value in curve:
        if not abs(value - best) <= share * abs(best):
            reached = None
        elif reached is None:
            reached = time_so_far
    return reached


def spread(values: Iterable[float], digits: int) -> str:
    """Median [lowest, highest]."""
    low, middle, high = np.quantile(list(values), [0, 0.5, 1])
    return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def table(runs: list[Mapping[str, Curve]]) -> None:
    ends = [{name: curve[-1][1] for name, curve in run.items()} for run in runs]
    best = [min(end.values()) for end in ends]
    print(
        f"{'':28}"
        + "".join(f"{f'seconds to {100 * share:g} %':>30}" for share in SHARES)
        + f"{'end, %':>26}"
    )
    for name in runs[0]:
        line = f"{name:28}"
        for share in SHARES:
            found = [seconds(run[name], b, share) for run, b in zip(runs, best, strict=True)]
            reached = [value for value in found if value is not None]
            cell = f"{len(reached)} of {len(found)}"
            cell += f": {spread(reached, 1)}" if reached else ""
            line += f"{cell:>30}"
        above = (100 * (end[name] / b - 1) for end, b in zip(ends, best, strict=True))
        print(f"{line}{spread(above, 3):>26}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="20news", help="rows of conf/data (default: 20news)")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = instantiate(configured(f"data={options.data}").data)
    warm_up = split(instantiate(configured().data), 0)
    with threadpool_limits(1):
        for contend in CONTENDERS.values():
            contend(warm_up, 0)
        runs: dict[int, dict[str, Curve]] = {seed: {} for seed in options.seeds}
        for seed, name in tqdm(
            [(s, n) for s in runs for n in CONTENDERS], disable=None, leave=False
        ):
            runs[seed][name] = CONTENDERS[name](split(data, seed), seed)
    table(list(runs.values()))


if __name__ == "__main__":
    main()
