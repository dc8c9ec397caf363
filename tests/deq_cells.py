"""Small contractive cells in double precision, and what watches solvers and inverse methods."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from shine_exp.types import Adjoint, AdjointSystem, InverseMethod, LinearOperator, Solution


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class TanhCell(nn.Module):
    """f(z, x) = tanh(W z + U x + b) with ‖W‖₂ = gain: z (batch, d), x (batch, 3)."""

    def __init__(self, d: int = 8, gain: float = 0.8, seed: int = 0) -> None:
        super().__init__()
        weight = normal(d, d, seed=seed)
        self.weight = nn.Parameter(weight * gain / torch.linalg.matrix_norm(weight, 2))
        self.inject = nn.Parameter(normal(d, 3, seed=seed + 1))
        self.bias = nn.Parameter(normal(d, seed=seed + 2))

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(z @ self.weight.T + x @ self.inject.T + self.bias)


class PairCell(nn.Module):
    """A state of images (batch, 2, 3, 2) and vectors (batch, 5), coupled.

    Its two inputs are (batch, 17) and (batch, 1).
    """

    def __init__(self, gain: float = 0.8, seed: int = 0) -> None:
        super().__init__()
        self.inner = TanhCell(17, gain, seed)

    def forward(self, z: list[Tensor], x: Tensor, scale: Tensor) -> list[Tensor]:
        joint = torch.cat([z[0].flatten(1), z[1]], dim=1)
        out = torch.tanh(
            joint @ self.inner.weight.T + scale * x + self.inner.bias + self.inner.inject.sum(1)
        )
        return [out[:, :12].unflatten(1, (2, 3, 2)), out[:, 12:]]


def pair_problem(seed: int, batch: int = 3) -> tuple[PairCell, list[Tensor], list[Tensor]]:
    """A cell, a state whose images are channels-last, and its inputs."""
    images = normal(batch, 2, 3, 2, seed=seed + 3).contiguous(memory_format=torch.channels_last)
    inputs = [
        normal(batch, 17, seed=seed + 4).requires_grad_(),
        normal(batch, 1, seed=seed + 5).requires_grad_(),
    ]
    return PairCell(seed=seed), [images, torch.zeros(batch, 5, dtype=torch.float64)], inputs


@dataclass
class Watched:
    """A solver, the points and values of its evaluations, oldest first, and its solution."""

    inner: Callable[..., Solution]
    points: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    solution: Solution | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __call__(
        self, g: Callable[[Tensor], Tensor], z0: Tensor, tol: float, **options: Any
    ) -> Solution:
        def watched(z: Tensor) -> Tensor:
            value = g(z)
            self.points.append(z.detach().clone())
            self.values.append(value.detach().clone())
            return value

        self.solution = self.inner(watched, z0, tol, **options)
        return self.solution


@dataclass
class Spy:
    """An inverse method, its system, J (batch, d, d) and answer, and its number of products."""

    inner: InverseMethod
    n_products: int = 0

    @property
    def uses_estimate(self) -> bool:
        return getattr(self.inner, "uses_estimate", False)

    def __call__(self, system: AdjointSystem) -> Adjoint:
        unit = torch.eye(system.r.shape[-1], dtype=system.r.dtype)
        self.J = torch.stack([system.operator(e.expand_as(system.r)) for e in unit], dim=1)
        self.before = None if system.estimate is None else system.estimate.matvec(system.r)

        def counted(v: Tensor) -> Tensor:
            self.n_products += 1
            return system.operator(v)

        self.system, self.adjoint = (
            system,
            self.inner(replace(system, operator=LinearOperator(counted))),
        )
        return self.adjoint

    @property
    def exact(self) -> Tensor:
        """J⁻ᵀ r."""
        return torch.linalg.solve(self.J.mT, self.system.r)

    @property
    def residual(self) -> Tensor:
        """‖Jᵀu − r‖ / ‖r‖ (batch,)."""
        r = self.system.r
        return (torch.einsum("bij,bi->bj", self.J, self.adjoint.u) - r).norm(dim=-1) / r.norm(
            dim=-1
        )
