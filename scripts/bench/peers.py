"""Seconds to a good α on 20newsgroups: our methods beside the searches that a user would write.

    python scripts/bench/peers.py                                   20newsgroups, seeds 0 to 9
    python scripts/bench/peers.py --data synthetic_text --seeds 0   made data: takes seconds
    python scripts/bench/peers.py --groups 10 --seeds 0 1 2         ten hyperparameters
    python scripts/bench/peers.py --earlier FOLDER                  SHINE of commit 329321f, too

All contenders see the same splits, and α in [−12, 12]. Our methods have the default settings of
`shine-run`; building the design matrix is on their clock.

- `scalar search, our L-BFGS`: from α = 0 down by 2 until the outer loss rises (or up, where it
  rises at once), two parabolas through the three best points, and a tight solve at the best; each
  solve starts from the last θ and its secant pairs.
- scikit-learn's `LogisticRegression`, with the solver and the tolerance `tol` that a row names, at
  each α that SciPy's bounded scalar search asks for (to 0.01). L-BFGS and Newton-CG start from the
  last solution. Of several tolerances the fastest that gets there is the peer.
- `Optuna`: 20 trials of its default sampler (TPE) around scikit-learn's L-BFGS.
- With several hyperparameters (contiguous groups of features), scikit-learn has none of this:
  there our descents meet random search and Bayesian optimisation, 60 trials each.

Each contender first runs on bundled data, off the clock, to pay for what is done once in a process.
The table shows seconds of CPU time, on one thread, until a contender's outer loss is, and stays,
within 1 % or 0.1 % of the optimum; a search counts as being at its best fit so far. The optimum is
the lowest outer loss of exact solves in a scalar search around the best α of all contenders; with
several hyperparameters it is the lowest end of any contender. The numbers are medians over all
seeds [lowest, highest], and a seed on which a contender does not get there counts as infinite.
`end` is how far above the optimum a contender ends, in %.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
import optuna
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

from shine_exp.bilevel.hypergradients.exact import exact_solution
from shine_exp.bilevel.inner_solution import InnerSolution, solve_inner
from shine_exp.bilevel.problems.linear.logistic import LogisticLoss
from shine_exp.bilevel.problems.linear.model import LinearModel
from shine_exp.data.splits import Splits, split
from shine_exp.runs.composition import CONFIG_DIR
from shine_exp.solvers.lbfgs import LBFGS

BOUND = 12.0
SHARES = (0.01, 0.001)
EARLIER = """
import json, sys
sys.path.insert(0, "scripts")
import bench_peers as peers
import torch
torch.set_num_threads(1)
data, seed = peers.instantiate(peers.configured("data=" + sys.argv[1]).data), int(sys.argv[2])
peers.ours("shine")(peers.split(peers.instantiate(peers.configured().data), 0), 0)
print(json.dumps(peers.ours("shine")(peers.split(data, seed), seed)))
"""


class Mark(NamedTuple):
    """CPU seconds so far, the outer loss there, and α, or the mean of several."""

    time: float
    loss: float
    alpha: float = math.nan


Curve = list[Mark]
Contender = Callable[[Splits, int], Curve]
# α ↦ h(α)
Outer = Callable[[float], float]


def configured(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("config", list(overrides))


def ours(method: str, groups: int, *overrides: str) -> Contender:
    """The contender that is `shine-run method=…`."""

    def run(splits: Splits, seed: int) -> Curve:
        loop = instantiate(configured(f"method={method}", *overrides).outer)
        begin, curve = time.process_time(), []
        problem = LinearModel(LogisticLoss(), splits, groups, seed=seed)
        state = loop.init(problem, seed)
        for _ in range(loop.n_steps):
            state = loop.step(problem, state)
            alpha = float(state.alpha.mean())
            curve.append(Mark(time.process_time() - begin, state.outer_value, alpha))
        return curve

    return run


def scalar_search(splits: Splits, seed: int) -> Curve:
    """The contender that searches α by outer losses alone, over our own solver."""
    begin, curve, tried = time.process_time(), [], {}
    problem = LinearModel(LogisticLoss(), splits, seed=seed)
    alpha, theta = problem.start()
    point = problem.inner(alpha)(theta)
    scale = point.gradient_norm
    last: InnerSolution | None = None

    def outer(value: float, tol: float) -> None:
        nonlocal last
        alpha = torch.tensor([value], dtype=torch.float64)
        warm = None
        if last is not None and last.estimate is not None:
            warm = problem.moved(last.estimate, last.alpha, alpha, last.theta).estimate
        start = point if last is None else last.point
        last = solve_inner(problem, LBFGS(), alpha, start, tol * scale, warm)
        tried[value] = last.outer.value
        curve.append(Mark(time.process_time() - begin, last.outer.value, value))

    outer(0.0, 3e-4)
    for step in (-2.0, 2.0):
        value = 0.0
        while abs(value) < BOUND and tried[value] <= min(tried.values()):
            value += step
            outer(value, 3e-4)
    for _ in range(2):
        (a, fa), (b, fb), (c, fc) = sorted(tried.items(), key=lambda item: item[1])[:3]
        top = (b - a) ** 2 * (fb - fc) - (b - c) ** 2 * (fb - fa)
        outer(b - 0.5 * top / ((b - a) * (fb - fc) - (b - c) * (fb - fa)), 3e-5)
    outer(min(tried, key=tried.__getitem__), 1e-6)
    return curve


def bounded(outer: Outer) -> None:
    minimize_scalar(outer, bounds=(-BOUND, BOUND), method="bounded", options={"xatol": 0.01})


def trials(outer: Outer) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(lambda trial: outer(trial.suggest_float("alpha", -BOUND, BOUND)), n_trials=20)


def peer(search: Callable[[Outer], None], **fit: object) -> Contender:
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
            curve.append(Mark(time.process_time() - begin, value, alpha))
            return value

        search(outer)
        best = accumulate(curve, lambda a, b: b if b.loss < a.loss else a)
        return [at._replace(time=mark.time) for at, mark in zip(best, curve, strict=True)]

    return run


def earlier(folder: Path, data: str, splits: Splits, seed: int) -> Curve:
    """SHINE of an earlier commit, in a process of its own, that warms up by itself."""
    command = [sys.executable, "-c", EARLIER, data, str(seed)]
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    answer = subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    return [Mark(*mark) for mark in json.loads(answer.stdout)]


def contenders(groups: int) -> dict[str, Contender]:
    """Ours, and their peers."""
    if groups > 1:
        n_trials = "outer.n_steps=60"
        descents = {m: ours(m, groups) for m in ("shine", "opa", "refine", "full")}
        return descents | {
            "random search": ours("random", groups, n_trials),
            "Bayesian optimisation": ours("bayes", groups, n_trials),
        }
    found = {m: ours(m, 1) for m in ("shine", "opa", "refine", "full", "jf")}
    found["cg (HOAG)"] = ours("cg", 1)
    found["scalar search, our L-BFGS"] = scalar_search
    warm = {"warm_start": True}
    for tol in ("1e-4", "1e-5", "1e-6"):
        found[f"L-BFGS to {tol}, bounded"] = peer(bounded, **warm, tol=float(tol))
    for tol in ("1e-3", "1e-4"):
        newton = {"solver": "newton-cg", "tol": float(tol), **warm}
        found[f"Newton-CG to {tol}, bounded"] = peer(bounded, **newton)
    for tol in ("1e-2", "1e-3", "1e-4"):
        dual = {"solver": "liblinear", "dual": True, "random_state": 0, "tol": float(tol)}
        found[f"LIBLINEAR to {tol}, bounded"] = peer(bounded, **dual)
    found["L-BFGS to 1e-5, Optuna"] = peer(trials, **warm, tol=1e-5)
    return found


def optimum(splits: Splits, curves: Iterable[Curve]) -> float:
    """The lowest outer loss of exact solves within 1 of the best last α."""
    ends = [curve[-1] for curve in curves if math.isfinite(curve[-1].alpha)]
    near = min(ends, key=lambda mark: mark.loss)
    problem = LinearModel(LogisticLoss(), splits)
    alpha, theta = problem.start()
    point = problem.inner(alpha)(theta)
    tol = 1e-8 * point.gradient_norm

    def outer(value: float) -> float:
        nonlocal point
        solution = exact_solution(problem, torch.tensor([value]).double(), point, tol)
        point = solution.point
        return solution.outer.value

    bounds = (max(near.alpha - 1, -BOUND), min(near.alpha + 1, BOUND))
    # A step of 1e-2 in α changes the outer loss by some 1e-5 of it there.
    search = minimize_scalar(outer, bounds=bounds, method="bounded", options={"xatol": 1e-2})
    return float(search.fun)


def seconds(curve: Curve, best: float, share: float) -> float:
    """The time from which on the loss stays within this share of the best, above or below."""
    reached = math.inf
    for mark in curve:
        if not abs(mark.loss - best) <= share * abs(best):
            reached = math.inf
        elif reached == math.inf:
            reached = mark.time
    return reached


def spread(values: Iterable[float], digits: int) -> str:
    """Median [lowest, highest]; the median of two infinite numbers is no number."""
    ordered = sorted(values)
    middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    return f"{middle:.{digits}f} [{ordered[0]:.{digits}f}, {ordered[-1]:.{digits}f}]"


def table(runs: list[Mapping[str, Curve]], best: list[float]) -> None:
    print(
        f"{'':30}"
        + "".join(f"{f'seconds to {100 * share:g} %':>30}" for share in SHARES)
        + f"{'end, %':>28}"
    )
    for name in runs[0]:
        line = f"{name:30}"
        for share in SHARES:
            found = [seconds(run[name], b, share) for run, b in zip(runs, best, strict=True)]
            n_reached = sum(map(math.isfinite, found))
            line += f"{f'{n_reached} of {len(found)}: {spread(found, 1)}':>30}"
        above = (100 * (run[name][-1].loss / b - 1) for run, b in zip(runs, best, strict=True))
        print(f"{line}{spread(above, 3):>28}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="20news", help="rows of conf/data (default: 20news)")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--groups", type=int, default=1, help="hyperparameters (default: 1)")
    parser.add_argument("--earlier", type=Path, help="a checkout of commit 329321f")
    parser.add_argument("--only", nargs="+", default=[""], help="contenders that begin so")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = instantiate(configured(f"data={options.data}").data)
    chosen = {
        name: contender
        for name, contender in contenders(options.groups).items()
        if name.startswith(tuple(options.only))
    }
    warm_up = split(instantiate(configured().data), 0)
    with threadpool_limits(1):
        for contend in chosen.values():
            contend(warm_up, 0)
        if options.earlier:
            chosen["shine, earlier"] = partial(earlier, options.earlier.resolve(), options.data)
        runs: dict[int, dict[str, Curve]] = {seed: {} for seed in options.seeds}
        for seed, name in tqdm([(s, n) for s in runs for n in chosen], disable=None, leave=False):
            runs[seed][name] = chosen[name](split(data, seed), seed)
        best = [
            optimum(split(data, seed), run.values())
            if options.groups == 1
            else min(curve[-1].loss for curve in run.values())
            for seed, run in runs.items()
        ]
    table(list(runs.values()), best)


if __name__ == "__main__":
    main()
