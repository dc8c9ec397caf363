"""The backward pass through an equilibrium: r = ∇L(z*) goes in, u with Jᵀu = r comes out."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from shine_exp.deq.linearisation import Linearisation
from shine_exp.deq.precision import full_precision
from shine_exp.deq.report import Report, adjoint_residual
from shine_exp.errors import UserError
from shine_exp.inverse.answer import answer
from shine_exp.solvers.looks import fixed_steps
from shine_exp.types import (
    Adjoint,
    AdjointSystem,
    InverseEstimate,
    InverseMethod,
    Status,
)


@dataclass(frozen=True, eq=False)
class Backward:
    """From r to u by `inverse`, with f recorded at z* and the forward solver's `estimate`.

    `missed(adjoint, residual)`, unless it is None, is called where a solve did not converge;
    `residual()` (batch,) costs one more product. With `fixed` the inverse method looks at nothing,
    as in the forward pass: PyTorch may run the backward pass in a thread of its own.
    """

    inverse: InverseMethod
    tol: float
    at: Linearisation
    estimate: InverseEstimate | None
    report: Report
    missed: Callable[[Adjoint, Callable[[], Tensor]], None] | None
    fixed: bool
    hooks: list[RemovableHandle] = field(default_factory=list)  # that of the latest pass

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
            report.backward_residual = adjoint_residual(u, z.grad, r)
            z.grad = None

        if self.hooks:
            self.hooks.pop().remove()
        self.hooks.append(self.at.z.register_post_accumulate_grad_hook(measure))
        return u

    def _solve(self, r: Tensor) -> Tensor:
        with full_precision(r.device.type), fixed_steps(self.fixed):
            system = AdjointSystem(self.at.transposed_jacobian(), r, self.tol, self.estimate)
            adjoint = answer(self.inverse, system)
            self.report.add(adjoint)
            if self.missed is not None and adjoint.converged is not None:
                self._tell(adjoint, r, self.missed)
        return adjoint.u

    def _tell(
        self, adjoint: Adjoint, r: Tensor, missed: Callable[[Adjoint, Callable[[], Tensor]], None]
    ) -> None:
        if adjoint.status is not Status.CONVERGED:
            u = adjoint.u
            missed(adjoint, lambda: adjoint_residual(u, self.at.vjp(u), r))


class ImplicitGradient(torch.autograd.Function):
    """The identity, whose gradient is u in place of r."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, backward: Backward) -> Tensor:
        ctx.solve = backward
        return image.view_as(image)

    @staticmethod
    def backward(ctx: Any, r: Tensor) -> tuple[Tensor, None]:
        # `once_differentiable` would miss that u depends on z* and the parameters where r does not.
        if torch.is_grad_enabled():
            raise UserError(
                "a DEQ layer has no second derivatives, which create_graph=True is for: "
                "take finite differences of its gradient, or differentiate "
                "unroll(cell, z0, …, n_steps=…)"
            )
        return ctx.solve(r), None
