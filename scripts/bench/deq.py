"""Forward and backward cost of the equilibrium layer beside TorchDEQ, per method, model and batch.

    python scripts/bench/deq.py
    python scripts/bench/deq.py --model micro --batch 4 --no-peer
    python scripts/bench/deq.py --methods full:12,full@anderson,opa

The first compares TINY at batch 32, then LARGE at batch 8; the second one model, without TorchDEQ.
Methods are METHOD, METHOD:STEPS or METHOD@SOLVER, of conf/.

All contenders get one cell object (in the memory format of its YAML, weight norm, no dropout), one
injection (of seeded normal images, 3 × 32 × 32), the start 0, the gradient r at the layer's output
(seeded normal) and, with tolerances of 0, exactly the steps of conf/. The cell comes from
`--pretrain` Adam steps through 5 unrolled applications on one batch with random labels: no trained
network, but no longer the initial cell, on which solvers have nothing to do.

- fwd: the solve and the recorded evaluation; bwd: from r to the gradients of the cell's parameters
  and of the injection. Contenders take turns; milliseconds are medians, ratios are medians of the
  ratios within a round. With one thread on the CPU, milliseconds of CPU time: of other processes,
  only what they take of caches and memory counts.
- `one vjp` is the baseline: one recorded evaluation at a solution, and its gradients of parameters
  and injection alone; `one vjp, z` is the same with the gradient of z.
- f: evaluations of f, forward + backward; vjp: passes back through f, forward + backward, that to
  the parameters included. Counted by this script inside the cell, in a run off the clock.
- residuals, median and largest over the batch: ‖z − f(z)‖ / ‖z‖ where the solver ended, ‖Jᵀu − r‖
  / ‖r‖ of the u that enters the recorded evaluation, J at that evaluation. Computed here from z
  and u, alike for all. A phantom gradient has no u. TorchDEQ without `hook` solves with the J of
  one evaluation later, at f(z), so that its residual is no measure of its u: there, compare
  errors.
- error: ‖g − g*‖ / ‖g*‖ of the gradient of the parameters and the injection together: what all of
  this is for. g* is the implicit gradient at the fixed point itself, found by Broyden's method to
  1e-8 a coordinate in float64, its u by SciPy's GMRES in 80 steps; nan where there is no
  convergence to either.
- PyTorch is as it comes. `shine-run` sets THP_MEM_ALLOC_ENABLE=1, huge pages for large tensors;
  set for this script, it makes every contender faster, those that allocate most by most.
- peak: of memory during the forward and during the backward pass, above what was there before
  both. On the CPU of the resident set (Linux, which can reset it), after the C library has
  returned what it holds; on CUDA as allocated.

TorchDEQ (`torchdeq`) gets the cell as a function of a list, which it flattens in its own way, to
NCHW; `, flat` gets one vector in the order of memory, as our layer does. `, 5 pairs` is `hook`
with a limited memory in the backward pass, as ours has: no option of `get_deq`, but of its Broyden
solver, which writes over the oldest pairs where ours restarts. Its weight norm is evaluated once
per solve, as its own would be.
"""

import argparse
import statistics
from collections.abc import Sequence
from importlib.util import find_spec

import torch
from deq_contenders import BASELINES, Contender, Setting, baselines, ours, peers, setting
from deq_measures import check, clock, exact_gradient, once, peaks
from torch import Tensor

METHODS = "full,full@anderson,shine,jf,refine,neumann,opa"
HEADER = f"{'':26}{'f':>7}{'vjp':>7}{'fwd ms':>9}{'bwd ms':>9}{'/ vjp':>7}{'/ vjp, z':>9}"
HEADER += f"{'‖z − f(z)‖ / ‖z‖':>20}{'‖Jᵀu − r‖ / ‖r‖':>20}{'error':>9}{'peak MiB':>14}"


def pair(a: float, b: float, digits: int = 0) -> str:
    return f"{a:.{digits}f} / {b:.{digits}f}"


def spread(residual: Tensor | None) -> str:
    return (
        "" if residual is None else f"{float(residual.median()):.1e} / {float(residual.max()):.1e}"
    )


def table(contenders: Sequence[Contender], at: Setting, repeats: int) -> None:
    exact = exact_gradient(at)
    checked = {c.name: check(c, at, exact) for c in contenders}
    rest = baselines(at, checked[contenders[0].name].z)
    checked |= {c.name: check(c, at, exact) for c in rest}
    memory = {c.name: peaks(c, at) for c in (*contenders, *rest)}
    rounds = [{c.name: once(c, at, clock) for c in (*contenders, *rest)} for _ in range(repeats)]

    def ratio(above: str, below: str, i: int) -> float:
        return statistics.median(r[above][i] / r[below][i] for r in rounds)

    print(HEADER)
    for name, facts in checked.items():
        forward, backward = (statistics.median(r[name][i] for r in rounds) for i in (0, 1))
        quality = (
            ("", "", "")
            if name in BASELINES
            else (spread(facts.forward), spread(facts.backward), f"{facts.error:.1e}")
        )
        print(
            f"{name:26}{facts.evals:>7}{facts.vjps:>7}{forward:9.0f}{backward:9.0f}"
            f"{ratio(name, BASELINES[0], 1):7.2f}{ratio(name, BASELINES[1], 1):9.2f}"
            f"{quality[0]:>20}{quality[1]:>20}{quality[2]:>9}{pair(*memory[name]):>14}",
            flush=True,
        )
    peers = [name for name in checked if name.startswith("torchdeq")]
    if peers:
        print(f"\n{'times as fast as …':26}" + "".join(f"{name:>26}" for name in peers))
    for c in contenders if peers else ():
        print(
            f"{c.name:26}"
            + "".join(f"{pair(*(ratio(p, c.name, i) for i in (0, 1)), 2):>26}" for p in peers)
        )


def growth(at: Setting, model: str) -> None:
    """Memory against the number of steps."""
    size = sum(t.nelement() * t.element_size() for t in at.start) / 2**20
    print(f"\npeak MiB, forward / backward, with fewer and more steps; z has {size:.1f} MiB")
    for spec, key in (
        ("full", "method.max_steps"),
        ("full", "solver.max_steps"),
        ("shine", "solver.max_steps"),
    ):
        found = []
        for n in (5, 20):
            contender = ours(at, model, spec, f"{key}={n}")
            once(contender, at, clock)
            found.append(f"{n}: {pair(*peaks(contender, at))}")
        print(
            f"{spec:8}{key:18}" + "".join(f"{text:>18}" for text in found),
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", action="append", help="of conf/problem/model/; each with its --batch"
    )
    parser.add_argument("--batch", action="append", type=int)
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--pretrain", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-peer", action="store_true", help="without TorchDEQ")
    arguments = parser.parse_args()
    models, batches = arguments.model or ["tiny", "large"], arguments.batch or [32, 8]
    if len(models) != len(batches):
        parser.error("as many --batch as --model, please")
    if not arguments.no_peer and find_spec("torchdeq") is None:
        parser.error("TorchDEQ is not installed: pip install -e '.[bench]', or take --no-peer")
    torch.set_num_threads(arguments.threads)
    for model, batch in zip(models, batches, strict=True):
        at = setting(model, batch, arguments.pretrain, arguments.device)
        contenders = [ours(at, model, spec) for spec in arguments.methods.split(",")]
        print(f"\n{model}, batch {batch}, {arguments.device}, {arguments.repeats} rounds")
        table(
            contenders if arguments.no_peer else contenders + peers(at, model),
            at,
            arguments.repeats,
        )
        growth(at, model)


if __name__ == "__main__":
    main()
