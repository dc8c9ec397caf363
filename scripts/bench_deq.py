"""Forward and backward cost of the equilibrium layer beside TorchDEQ, per method, model and batch.

    python scripts/bench_deq.py                                      TINY at batch 32, then LARGE at batch 8
    python scripts/bench_deq.py --model micro --batch 4 --no-peer    one model, without TorchDEQ
    python scripts/bench_deq.py --methods full,full@anderson,opa     METHOD or METHOD@SOLVER, of conf/

All contenders get one cell object (channels-last, weight norm, no dropout), one injection (of seeded normal images,
3 × 32 × 32), the start 0, the gradient r at the layer's output (seeded normal) and, with tolerances of 0, exactly the
steps of the recipe. The cell comes from `--pretrain` Adam steps through 5 unrolled applications on one batch with
random labels: no trained network, but no longer the initial cell, on which solvers have nothing to do.

- fwd: the solve and the recorded evaluation; bwd: from r to the gradients of the cell's parameters and of the
  injection. Contenders take turns; milliseconds are medians, ratios are medians of the ratios within a round. With
  one thread on the CPU, milliseconds of CPU time: other processes do not count.
- `one vjp` is the floor: one recorded evaluation at a solution, and its gradients of parameters and injection alone;
  `one vjp, z` is the same with the gradient of z.
- f: evaluations of f, forward + backward; vjp: passes back through f, forward + backward, that to the parameters
  included. Counted by this script inside the cell, in a run off the clock.
- residuals, median and largest over the batch: ‖z − f(z)‖ / ‖z‖ where the solver ended, ‖Jᵀu − r‖ / ‖r‖ of the u that
  enters the recorded evaluation, J at that evaluation. Computed here from z and u, alike for all. An unrolled
  (phantom) gradient has no u. TorchDEQ without `hook` solves with the J of one evaluation later, at f(z).
- peak: of memory during the forward and during the backward pass, above what was there before both. On the CPU of
  the resident set (Linux, which can reset it), after the allocator has returned what it holds; on CUDA as allocated.

TorchDEQ (`torchdeq`) gets the cell as a function of a list, which it flattens in its own way, to NCHW; `, packed` gets
one channels-last vector, as our layer does. Its weight norm is evaluated once per solve, as its own one would be.
"""

import argparse
import ctypes
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parametrize

from shine_exp.identity import CONFIG_DIR
from shine_exp.problems.deq import DEQ
from shine_exp.problems.deq.mdeq import MDEQ
from shine_exp.problems.deq.packing import Packing

METHODS = "full,full@anderson,shine,jf,refine,neumann,opa"
FLOORS = ("one vjp", "one vjp, z")
HEADER = f"{'':26}{'f':>7}{'vjp':>7}{'fwd ms':>9}{'bwd ms':>9}{'/ one vjp':>11}{'‖z − f(z)‖ / ‖z‖':>20}"
HEADER += f"{'‖Jᵀu − r‖ / ‖r‖':>20}{'peak MiB':>14}"


@dataclass(frozen=True)
class Setting:
    """What all contenders share: the cell, z₀, the injection and the gradient at the output."""

    cell: nn.Module
    start: list[Tensor]
    injection: Tensor
    r: list[Tensor]

    @property
    def device(self) -> torch.device:
        return self.injection.device

    def forget(self) -> None:
        self.cell.zero_grad(set_to_none=True)
        self.injection.grad = None


@dataclass(frozen=True)
class Contender:
    """`solve(cell)` is z*, with a graph. Its last `n_recorded` evaluations are part of that graph."""

    name: str
    solve: Callable[[nn.Module], Sequence[Tensor]]
    n_recorded: int = 1


@dataclass
class Visit:
    """A recorded evaluation: where it was made, and the last gradient that arrived at its output."""

    z: list[Tensor]
    u: dict[int, Tensor] = field(default_factory=dict)


class Audit(nn.Module):
    """The cell, counting evaluations and the passes back through it."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell
        self.n_evals = self.n_vjps = 0
        self.recorded: list[Visit] = []

    def forward(self, z: Sequence[Tensor], *inputs: Tensor) -> list[Tensor]:
        self.n_evals += 1
        out: list[Tensor] = self.cell(z, *inputs)
        if out[0].requires_grad:
            visit = Visit([t.detach() for t in z])
            self.recorded.append(visit)
            for i, t in enumerate(out):
                t.register_hook(partial(self._arrived, visit, i))
        return out

    def _arrived(self, visit: Visit, i: int, gradient: Tensor) -> None:
        self.n_vjps += i == 0
        visit.u[i] = gradient.detach()


def configuration(model: str, spec: str, *overrides: str) -> DictConfig:
    """conf/ composed for METHOD or METHOD@SOLVER."""
    method, _, solver = spec.partition("@")
    solver = solver or ("adjoint_broyden" if method == "opa" else "broyden")
    options = ["problem=mdeq", f"problem/model={model}", f"method={method}", f"solver={solver}"]
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("config", [*options, "problem.model.architecture.dropout=0", *overrides])


def setting(model: str, batch: int, pretrain: int, device: str) -> Setting:
    """A seeded network after `pretrain` steps, and what surrounds its cell."""
    torch.manual_seed(0)
    architecture = instantiate(configuration(model, "shine").problem.model.architecture)
    network = MDEQ(architecture, 3, 10, lambda cell: DEQ(cell, lambda *_: None, None)).to(device)
    images, labels = torch.randn(batch, 3, 32, 32).to(device), torch.randint(10, (batch,)).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(pretrain):
        optimizer.zero_grad()
        cross_entropy(network(images, n_unrolled=5), labels).backward()
        optimizer.step()
    with torch.no_grad():
        start, (x,) = network.start(images)
    r = [torch.randn(t.shape).to(t) for t in start]
    return Setting(network.equilibrium.cell, start, x.requires_grad_(), r)


def ours(at: Setting, model: str, spec: str, *overrides: str) -> Contender:
    config = configuration(model, spec, *overrides)
    solver, inverse, opa = instantiate(config.solver), instantiate(config.method.inverse), config.method.opa

    def loss(z: Sequence[Tensor]) -> Tensor:  # whose gradient is r
        return torch.stack([(a * b).sum() for a, b in zip(z, at.r, strict=True)]).sum()

    def solve(cell: nn.Module) -> Sequence[Tensor]:
        layer = DEQ(cell, solver, inverse, tol=0.0, adjoint_tol=0.0, opa=opa)
        return layer(at.start, at.injection, loss=loss)

    return Contender(spec, solve)


def peers(at: Setting, model: str) -> list[Contender]:
    """TorchDEQ's forward solvers with implicit differentiation, and with its unrolled phantom gradient."""
    from torchdeq import get_deq

    recipe = configuration(model, "full").problem.model
    steps = {"f_max_iter": recipe.forward_steps, "b_max_iter": recipe.backward_steps, "f_tol": 0.0, "b_tol": 0.0}
    packing = Packing.of(at.start)

    def contender(name: str, n_recorded: int = 1, packed: bool = False, **options: object) -> Contender:
        deq = get_deq(**steps, **options)

        def solve(cell: nn.Module) -> Sequence[Tensor]:
            with parametrize.cached():
                for module in cell.modules():
                    _ = module.weight if parametrize.is_parametrized(module, "weight") else None  # with its graph
                if not packed:
                    return deq(lambda *z: cell(z, at.injection), at.start)[0][-1]
                f = lambda z: packing.pack(cell(packing.unpack(z), at.injection))  # noqa: E731
                return packing.unpack(deq(f, packing.pack(at.start))[0][-1])

        return Contender(f"torchdeq {name}", solve, n_recorded)

    broyden = {"f_solver": "broyden", "b_solver": "broyden"}
    anderson = {"f_solver": "anderson", "b_solver": "anderson"}
    return [
        contender("broyden", ift=True, **broyden),
        contender("broyden, packed", packed=True, ift=True, **broyden),
        contender("broyden, hook", hook_ift=True, **broyden),
        contender("anderson", ift=True, **anderson),
        contender("phantom 5", n_recorded=5, grad=5, tau=0.5, **broyden),
    ]


def floors(at: Setting, z: list[Tensor]) -> list[Contender]:
    def solve(with_z: bool, cell: nn.Module) -> Sequence[Tensor]:
        return cell([t.detach().requires_grad_(with_z) for t in z], at.injection)

    return [Contender(name, partial(solve, with_z)) for name, with_z in zip(FLOORS, (False, True), strict=True)]


def clock(device: torch.device) -> float:
    """Milliseconds: of this process's CPU time where it has one thread, else of wall time."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    return 1e3 * (time.process_time() if alone else time.perf_counter())


def once(contender: Contender, at: Setting, read: Callable[[torch.device], float]) -> tuple[float, float]:
    """How much a reading grows over a forward and over a backward pass; r in the memory format of the output."""
    at.forget()
    start = read(at.device)
    z = contender.solve(at.cell)
    solved = read(at.device)
    r = [torch.empty_like(t).copy_(g) for t, g in zip(z, at.r, strict=True)]
    begin = read(at.device)
    torch.autograd.backward(z, r)
    return solved - start, read(at.device) - begin


def norms(tensors: Sequence[Tensor]) -> Tensor:
    """Of each sample, over all branches: (batch,)."""
    return torch.stack([t.flatten(1).norm(dim=1) for t in tensors]).norm(dim=0)


@dataclass(frozen=True)
class Checked:
    """Counts, forward + backward, residuals, and z where the solver ended."""

    evals: str
    vjps: str
    forward: Tensor
    backward: Tensor | None
    z: list[Tensor]


def check(contender: Contender, at: Setting) -> Checked:
    audit = Audit(at.cell)
    at.forget()
    out = contender.solve(audit)
    evals, vjps = audit.n_evals, audit.n_vjps
    solved, last = audit.recorded[-contender.n_recorded], audit.recorded[-1]
    torch.autograd.backward(out, at.r)
    z = [t.detach().clone().requires_grad_() for t in solved.z]
    image = at.cell(z, at.injection)
    forward = norms([a - b for a, b in zip(z, image, strict=True)]) / norms(z)
    backward = None
    if contender.n_recorded == 1:
        u = [last.u[i] for i in range(len(z))]
        products = torch.autograd.grad(image, z, u)
        backward = norms([a - b - c for a, b, c in zip(u, products, at.r, strict=True)]) / norms(at.r)
    counts = f"{evals}+{audit.n_evals - evals}", f"{vjps}+{audit.n_vjps - vjps}"
    return Checked(*counts, forward.detach(), backward, [t.detach() for t in z])


def peaks(contender: Contender, at: Setting) -> tuple[float, float]:
    """Peaks during a forward and during a backward pass, in MiB above what was there before both."""
    at.forget()
    before = peak(at.device, present=True)
    z = contender.solve(at.cell)
    forward = peak(at.device)
    peak(at.device, present=True)
    torch.autograd.backward(z, [torch.empty_like(t).copy_(g) for t, g in zip(z, at.r, strict=True)])
    return forward - before, peak(at.device) - before


def peak(device: torch.device, *, present: bool = False) -> float:
    """The peak so far in MiB, of what is in use from now on with `present`; nan where the system does not say."""
    if device.type == "cuda":
        if present:
            torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        if present:
            ctypes.CDLL("libc.so.6").malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def pair(a: float, b: float, digits: int = 0) -> str:
    return f"{a:.{digits}f} / {b:.{digits}f}"


def spread(residual: Tensor | None) -> str:
    return "" if residual is None else f"{float(residual.median()):.1e} / {float(residual.max()):.1e}"


def table(contenders: Sequence[Contender], at: Setting, repeats: int) -> None:
    checked = {c.name: check(c, at) for c in contenders}
    rest = floors(at, checked[contenders[0].name].z)
    checked |= {c.name: check(c, at) for c in rest}
    memory = {c.name: peaks(c, at) for c in (*contenders, *rest)}
    rounds = [{c.name: once(c, at, clock) for c in (*contenders, *rest)} for _ in range(repeats)]

    def ratio(above: str, below: str, i: int) -> float:
        return statistics.median(r[above][i] / r[below][i] for r in rounds)

    print(HEADER)
    for name, facts in checked.items():
        forward, backward = (statistics.median(r[name][i] for r in rounds) for i in (0, 1))
        residuals = ("", "") if name in FLOORS else (spread(facts.forward), spread(facts.backward))
        print(
            f"{name:26}{facts.evals:>7}{facts.vjps:>7}{forward:9.0f}{backward:9.0f}{ratio(name, FLOORS[0], 1):11.2f}"
            f"{residuals[0]:>20}{residuals[1]:>20}{pair(*memory[name]):>14}",
            flush=True,
        )
    peers = [name for name in checked if name.startswith("torchdeq")]
    if peers:
        print(f"\n{'times as fast as …':26}" + "".join(f"{name:>26}" for name in peers))
    for c in contenders if peers else ():
        print(f"{c.name:26}" + "".join(f"{pair(*(ratio(p, c.name, i) for i in (0, 1)), 2):>26}" for p in peers))


def growth(at: Setting, model: str) -> None:
    """Memory against the number of steps."""
    size = sum(t.nelement() * t.element_size() for t in at.start) / 2**20
    print(f"\npeak MiB, forward / backward, with fewer and more steps; z has {size:.1f} MiB")
    for spec, which in (("full", "backward_steps"), ("full", "forward_steps"), ("shine", "forward_steps")):
        found = []
        for n in (5, 20):
            contender = ours(at, model, spec, f"problem.model.{which}={n}")
            once(contender, at, clock)
            found.append(f"{n}: {pair(*peaks(contender, at))}")
        print(f"{spec:8}{which.replace('_', ' '):16}" + "".join(f"{text:>18}" for text in found), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", help="of conf/problem/model/; each with its --batch")
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
        table(contenders if arguments.no_peer else contenders + peers(at, model), at, arguments.repeats)
        growth(at, model)


if __name__ == "__main__":
    main()
