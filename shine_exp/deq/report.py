"""What the solves of a layer cost and reached."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from shine_exp.types import Adjoint, Solution, Status, StatusField, Unread, unread_status


@dataclass
class Report:
    """What the last solves of a layer cost and reached.

    What is a tensor has an entry per sample, (batch,).

    `inner_residual` is ‖z − f(z)‖ / √d at the solver's z, which the layer's `tol` bounds, and
    `forward_residual` is ‖z − f(z)‖ / max(‖z‖, ‖z − f(z)‖): 1 where nothing is solved, infinite
    where f(z) never was finite. `converged` says where the tolerance was met and `status` how the
    worst sample ended; `steps` and `evals` (products with J that a solver makes included) are the
    solver's counts. A status waits for the device when it is read.

    The backward fields are those of the latest backward pass. `backward_status` and
    `backward_converged` say how the inverse method ended and where it met its tolerance (None: it
    aims at none). `products` is the number of products with J that it made. `backward_residual` is
    ‖Jᵀu − r‖ / ‖r‖, known once `backward` has accumulated a gradient: the parameter gradient's
    pass through f is taken down to z, which yields Jᵀu for a fraction of a product.
    """

    forward_residual: Tensor
    inner_residual: Tensor
    converged: Tensor
    steps: int
    evals: int
    status: StatusField = StatusField()  # noqa: RUF009
    backward_residual: Tensor | None = None
    given_backward_status: Status | Unread | None = None
    backward_converged: Tensor | None = None
    products: int = 0
    fell_back: Tensor | None = None

    @staticmethod
    def of(solution: Solution) -> "Report":
        root_d = math.sqrt(max(solution.z.shape[-1], 1))
        return Report(
            relative_residual(solution.residual, solution.z),
            solution.residual / root_d,
            solution.converged,
            solution.n_steps,
            solution.n_evals,
            unread_status(solution),
        )

    @property
    def backward_status(self) -> Status | None:
        given = self.given_backward_status
        return given if given is None or isinstance(given, Status) else given()

    def add(self, adjoint: Adjoint) -> None:
        """How a backward solve ended."""
        self.given_backward_status = unread_status(adjoint)
        self.backward_converged = adjoint.converged
        self.products, self.fell_back = adjoint.n_products, adjoint.fell_back


def relative_residual(residual: Tensor, z: Tensor) -> Tensor:
    """‖g(z)‖ / max(‖z‖, ‖g(z)‖), (batch,), from ‖g(z)‖ (batch,) and z (batch, d).

    At most 1, also at z = 0; 0 where g(z) is; infinite where ‖g(z)‖ is.
    """
    scale = torch.maximum(z.norm(dim=-1), residual)
    return torch.where(residual.isfinite(), residual / _divisor(scale), residual)


def adjoint_residual(u: Tensor, product: Tensor, r: Tensor) -> Tensor:
    """‖Jᵀu − r‖ / ‖r‖, (batch,), from u, `product` = (∂f/∂z)ᵀu and r, (batch, d) each.

    Both vectors are scaled to max|r| = 1 first: squares of float32 gradients below 1e-23 would
    underflow.
    """
    scale = _divisor(torch.linalg.vector_norm(r, math.inf, dim=-1, keepdim=True))
    length = _divisor((r / scale).norm(dim=-1))
    error: Tensor = (u - product).sub_(r).div_(scale).norm(dim=-1)
    return error / length


def _divisor(norm: Tensor) -> Tensor:
    """Not less than the smallest normal number."""
    return norm.clamp_min(torch.finfo(norm.dtype).tiny)
