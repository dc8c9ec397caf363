"""What deq.py measures of a contender: counts, residuals, gradient error, time, peak memory."""

import ctypes
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from deq_contenders import Contender, Setting
from scipy.sparse.linalg import LinearOperator, gmres
from torch import Tensor, nn

from shine_exp.deq.flattening import Flattening
from shine_exp.deq.linearisation import Linearisation
from shine_exp.solvers.broyden import Broyden
from shine_exp.types import Status

FIXED_POINT = 1e-8  # root mean square of z − f(z) where the exact gradient is taken


@dataclass
class Visit:
    """A recorded evaluation: its z, and the last gradient that arrived at its output."""

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


def clock(device: torch.device) -> float:
    """Milliseconds: of this process's CPU time where it has one thread, else of wall time."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    return 1e3 * (time.process_time() if alone else time.perf_counter())


def once(
    contender: Contender, at: Setting, read: Callable[[torch.device], float]
) -> tuple[float, float]:
    """How much a reading grows over a forward and over a backward pass; r in the memory format of
    the output.
    """
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
    """Counts, forward + backward, residuals, the error of the gradient, and z where the solver
    ended.
    """

    evals: str
    vjps: str
    forward: Tensor
    backward: Tensor | None
    error: float
    z: list[Tensor]


def check(contender: Contender, at: Setting, exact: Tensor) -> Checked:
    """In a run off the clock; `exact` is what its gradient is compared with."""
    audit = Audit(at.cell)
    at.forget()
    out = contender.solve(audit)
    evals, vjps = audit.n_evals, audit.n_vjps
    solved, last = audit.recorded[-contender.n_recorded], audit.recorded[-1]
    torch.autograd.backward(out, at.r)
    gradient = torch.cat([t.grad.flatten() for t in at.leaves() if t.grad is not None])
    error = float((gradient - exact).norm() / exact.norm())
    z = [t.detach().clone().requires_grad_() for t in solved.z]
    image = at.cell(z, at.injection)
    forward = norms([a - b for a, b in zip(z, image, strict=True)]) / norms(z)
    backward = None
    if contender.n_recorded == 1:
        u = [last.u[i] for i in range(len(z))]
        products = torch.autograd.grad(image, z, u, retain_graph=True)
        backward = norms([a - b - c for a, b, c in zip(u, products, at.r, strict=True)]) / norms(
            at.r
        )
    counts = f"{evals}+{audit.n_evals - evals}", f"{vjps}+{audit.n_vjps - vjps}"
    return Checked(*counts, forward.detach(), backward, error, [t.detach() for t in z])


def exact_gradient(at: Setting) -> Tensor:
    """Of the leaves at the fixed point, in float64, u = J⁻ᵀr by SciPy's GMRES on the batch; nan
    where one fails.
    """
    at = at.double()
    flattening = Flattening.of(at.start)
    f = flattening.on_vectors(at.cell, at.injection)
    start, r = flattening.flatten(at.start), flattening.flatten(at.r)
    solution = Broyden(max_steps=200)(
        lambda z: z - f(z), start, FIXED_POINT * start.shape[-1] ** 0.5
    )
    linear = Linearisation(f, solution.z)

    def product(v: np.ndarray) -> np.ndarray:
        u = torch.from_numpy(v).view_as(r).to(r)
        return (u - linear.vjp(u)).flatten().cpu().numpy()

    operator = LinearOperator((r.nelement(), r.nelement()), matvec=product, dtype=np.float64)
    u, failed = gmres(operator, r.flatten().cpu().numpy(), rtol=1e-5, restart=80, maxiter=1)
    u = torch.from_numpy(u).view_as(r).to(r)
    gradient = torch.cat(
        [g.flatten() for g in torch.autograd.grad(linear.image, at.leaves(), u)]
    ).to(torch.float32)
    return gradient * math.nan if failed or solution.status is not Status.CONVERGED else gradient


def peaks(contender: Contender, at: Setting) -> tuple[float, float]:
    """Peaks of a forward and of a backward pass, in MiB above what was there before both."""
    at.forget()
    before = peak(at.device, present=True)
    z = contender.solve(at.cell)
    forward = peak(at.device)
    peak(at.device, present=True)
    torch.autograd.backward(z, [torch.empty_like(t).copy_(g) for t, g in zip(z, at.r, strict=True)])
    return forward - before, peak(at.device) - before


def peak(device: torch.device, *, present: bool = False) -> float:
    """The peak so far in MiB, of what is in use from now on with `present`; nan where the system
    does not say.
    """
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
