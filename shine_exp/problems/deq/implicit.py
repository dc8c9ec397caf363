"""The backward pass through an equilibrium: r = ∇L(z*) goes in, u with Jᵀu = r comes out."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from shine_exp.errors import UserError
from shine_exp.problems.deq.linearisation import Linearisation
from shine_exp.problems.deq.packing import Packing
from shine_exp.problems.deq.precision import full_precision
from shine_exp.problems.deq.report import Report, adjoint_residual
from shine_exp.types import Adjoint, AdjointSystem, InverseMethod, LinearInverse, Status


@dataclass(frozen=True, eq=False)
class Backward:
    """From r to u by `inverse`, with f recorded at z* and the forward solver's `estimate`.

    `missed(adjoint, residual)` is called where a solve did not converge; `residual()` (batch,) costs one more product.
    """

    inverse: InverseMethod
    tol: float
    at: Linearisation
    packing: Packing
    estimate: LinearInverse | None
    report: Report
    missed: Callable[[Adjoint, Callable[[], Tensor]], None]
    hooks: list[RemovableHandle] = field(default_factory=list)  # that of the latest pass

    @torch.no_grad()
    def __call__(self, r: Tensor) -> Tensor:
        if torch._C._functorch.is_legacy_batchedtensor(r):
            raise UserError(
                "a DEQ layer has no batched gradients (is_grads_batched, vectorize=True): "
                "take torch.autograd.grad for one gradient after the other"
            )
        u, report = self._solve(r) if r.numel() else r, self.report

        def measure(z: Tensor) -> None:  # refers to no graph, which refers to it
            """Once u has passed through f, z.grad is (∂f/∂z)ᵀu."""
            assert z.grad is not None
            report.backward_residual = adjoint_residual((u - z.grad.detach()).sub_(r), r)
            z.grad = None

        if self.hooks:
            self.hooks.pop().remove()
        self.hooks.append(self.at.z.register_post_accumulate_grad_hook(measure))
        return u

    def _solve(self, r: Tensor) -> Tensor:
        with full_precision(r.device.type):
            system = AdjointSystem(lambda v: v - self.at.vjp(v), r, self.tol, self.estimate)
            adjoint = self.inverse(system)
            self.report.add(adjoint)
            if adjoint.converged is not None and adjoint.status is not Status.CONVERGED:
                self.missed(adjoint, lambda: adjoint_residual(system.vjp(adjoint.u).sub_(r), r))
        return adjoint.u


class Implicit(torch.autograd.Function):
    """The vectors f(z*) as tensors of a state, not shared with the graph, whose gradient is u in place of r."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, backward: Backward) -> tuple[Tensor, ...]:
        ctx.through = backward
        state = backward.packing.unpack(image)
        # Copies, which the caller may change in place: f may have saved its output for its own gradient.
        return tuple(t.clone() for t in ((state,) if isinstance(state, Tensor) else state))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        through: Backward = ctx.through
        r = through.packing.pack(gradients)
        u = through(r.detach())
        if torch.is_grad_enabled():  # create_graph=True
            u = _DifferentiatedOnce.apply(u, through.at.image, r)  # type: ignore[no-untyped-call]
        return u, None


class _DifferentiatedOnce(torch.autograd.Function):
    """u, which depends on all that f(z*) and r do, in a way that is not recorded: a derivative of it is an error.

    `once_differentiable` would not do: it makes this error only where r has a graph, and u depends on z* and the
    parameters where r is constant, too.
    """

    @staticmethod
    def forward(ctx: Any, u: Tensor, *depends_on: Tensor) -> Tensor:
        return u.view_as(u)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, ...]:
        raise UserError(
            "a DEQ layer has no second derivatives: what it returned with create_graph=True cannot be differentiated "
            "again; take finite differences of its gradient, or unroll(cell, z0, …, n_steps=…)"
        )
