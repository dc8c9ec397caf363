"""A module as an equilibrium layer: solved forward, differentiated by any inverse method."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle

from shine_exp.errors import UnsupportedSolver, UserError
from shine_exp.inverse.answer import answer
from shine_exp.problems.deq.linearisation import Linearisation
from shine_exp.problems.deq.packing import Packing, State
from shine_exp.solvers.iterates import RootFunction
from shine_exp.types import AdjointSystem, Awareness, InverseMethod, LinearInverse, Solver, Status


@dataclass
class Report:
    """What the last solves of a layer cost and reached; residuals are per sample (batch,).

    `forward_residual` is ‖z − f(z)‖ / ‖z‖ at the solver's z and `converged` (batch,) whether that met the tolerance;
    `steps` and `evals` (products with J that a solver makes included) are the solver's counts.
    `backward_residual` is ‖Jᵀu − r‖ / ‖r‖, known once a gradient has been accumulated by `backward`: the parameter
    gradient's pass through f is taken down to z, which yields Jᵀu for a fraction of a product. `products` is the number
    of products with J before that pass.
    """

    forward_residual: Tensor
    converged: Tensor
    steps: int
    evals: int
    status: Status
    backward_residual: Tensor | None = None
    products: int = 0
    fell_back: Tensor | None = None


class DEQ(nn.Module):
    """z* = f(z*, x) for f = `cell`, by `solver`; the gradient of a loss by the implicit function theorem,

        w̄ = (∂f/∂w)ᵀ u,   Jᵀu = ∇L(z*),   J = I − ∂f/∂z

    with u from `inverse` (Bai et al. 2019; Ramzi et al. 2022, section 2). The solver works on g(z) = z − f(z) to
    ‖g‖ ≤ tol √d for each sample of length d, without a graph; one more evaluation of f is recorded, which serves the
    products with Jᵀ and the parameter gradient: what memory grows with, forward and backward, are the vectors that a
    solver keeps. The output is that evaluation, f(z*), in training and under `torch.no_grad` alike.

    `cell(z, *inputs)` maps a tensor, or a list of tensors, each (batch, …), to the like. It must be a function: the
    same dropout mask in every evaluation (pass it as an input), no running statistics. Without `inverse` it can only be
    evaluated. With `opa` the solver adds an update along Hᵀ∇L every that many steps. `last` reports on the last solves.
    Gradients of gradients are not supported.

    Raises `UnsupportedSolver` where the solver leaves no estimate for `inverse`, or takes no updates for `opa`.
    """

    last: Report

    def __init__(
        self,
        cell: nn.Module,
        solver: Solver[RootFunction],
        inverse: InverseMethod | None,
        *,
        tol: float = 1e-5,
        adjoint_tol: float = 1e-6,
        opa: int | None = None,
    ) -> None:
        super().__init__()
        if getattr(inverse, "uses_forward_inverse", False) and not solver.leaves_inverse:
            raise UnsupportedSolver(
                f"{type(inverse).__name__} uses the solver's inverse estimate and {type(solver).__name__} leaves none: "
                "take Broyden or AdjointBroyden"
            )
        if opa is not None and not solver.takes_awareness:
            raise UnsupportedSolver(f"{type(solver).__name__} takes no updates of OPA: take AdjointBroyden")
        if opa is not None and opa < 1:
            raise UserError(f"opa={opa}: take a number of steps, 1 or more")
        self.cell, self.solver, self.inverse = cell, solver, inverse
        self.tol, self.adjoint_tol, self.opa = tol, adjoint_tol, opa

    def forward(
        self, z0: State, *inputs: Tensor, loss: Callable[[Tensor | list[Tensor]], Tensor] | None = None
    ) -> Tensor | list[Tensor]:
        """f(z*), in the structure of z0; `loss(z)`, a scalar, is what `opa` is to be aware of."""
        packing = Packing.of(z0)
        start = packing.pack(z0).detach()
        lifted = packing.lift(self.cell, *inputs)
        cell_precision, full_precision = _precisions(start.device.type)

        def f(z: Tensor) -> Tensor:
            with cell_precision():
                return lifted(z)

        training = torch.is_grad_enabled()
        if training and self.inverse is None:
            raise UserError("a DEQ layer without an inverse method gives no gradient: call it under torch.no_grad()")
        awareness = self._awareness(packing, loss) if training else None
        tol = self.tol * math.sqrt(start.shape[-1])
        with torch.no_grad(), parametrize.cached(), full_precision():
            self._fill_cache()
            solution = self.solver(lambda z: z - f(z), start, tol, awareness=awareness)
        z = solution.z
        estimate = solution.inverse if getattr(self.inverse, "uses_forward_inverse", False) else None
        counts = solution.n_steps, solution.n_evals, solution.status
        self.last = Report(solution.residual / _norm(z), solution.converged, *counts)
        del solution  # and with it an estimate that is not used, before f is recorded
        if not training:
            return packing.unpack(f(z))
        assert self.inverse is not None
        at = Linearisation(f, z)
        backward = _Backward(self.inverse, self.adjoint_tol, at, estimate, self.last)
        return packing.unpack(_Implicit.apply(at.image, backward))  # type: ignore[no-untyped-call]

    def _fill_cache(self) -> None:
        """Parametrised weights with a graph: a cache that the caller has opened goes on to the recorded evaluation."""
        with torch.enable_grad():
            for module in self.cell.modules():
                if parametrize.is_parametrized(module):
                    for name in cast(nn.ModuleDict, module.parametrizations):
                        getattr(module, name)

    def _awareness(self, packing: Packing, loss: Callable[[Tensor | list[Tensor]], Tensor] | None) -> Awareness | None:
        if self.opa is None:
            return None
        if loss is None:
            raise UserError("a DEQ layer with opa needs to be called with the loss as a function of z: loss=…")
        return Awareness(packing.gradient(loss), self.opa)


def _precisions(device: str) -> tuple[Callable[[], torch.autocast], Callable[[], torch.autocast]]:
    """For the cell, the autocast that is on; for the solver, whose inner products need it, full precision.

    Without autocast's cache of weights: those cast without a graph, in the solver, would lose the gradient later.
    """
    on, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    return (
        lambda: torch.autocast(device, dtype=dtype, enabled=on, cache_enabled=False),
        lambda: torch.autocast(device, dtype=dtype, enabled=False),
    )


def _norm(v: Tensor) -> Tensor:
    """|v| of each sample, not less than the smallest normal number: a divisor."""
    norm: Tensor = v.norm(dim=-1)
    return norm.clamp_min(torch.finfo(v.dtype).tiny)


@dataclass(frozen=True, eq=False)
class _Backward:
    """From r = ∇L(z*) to u, with f recorded at z* and the forward solver's `estimate`."""

    inverse: InverseMethod
    tol: float
    at: Linearisation
    estimate: LinearInverse | None
    report: Report
    hooks: list[RemovableHandle] = field(default_factory=list)  # that of the latest pass

    def __call__(self, r: Tensor) -> Tensor:
        with _precisions(r.device.type)[1]():
            system = AdjointSystem(lambda v: v - self.at.vjp(v), r, self.tol, self.estimate)
            adjoint = answer(self.inverse, system)
        u, report = adjoint.u, self.report
        report.products, report.fell_back = adjoint.n_products, adjoint.fell_back

        def measure(z: Tensor) -> None:
            """Once u has passed through f, z.grad is (∂f/∂z)ᵀu."""
            assert z.grad is not None
            report.backward_residual = (u - z.grad - r).norm(dim=-1) / _norm(r)
            z.grad = None

        if self.hooks:
            self.hooks.pop().remove()
        self.hooks.append(self.at.z.register_post_accumulate_grad_hook(measure))
        return u


class _Implicit(torch.autograd.Function):
    """The identity, whose gradient is u in place of r."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, backward: _Backward) -> Tensor:
        ctx.through = backward
        return image.view_as(image)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, r: Tensor) -> tuple[Tensor, None]:
        return ctx.through(r), None
