"""Batches of small equilibrium problems with a known Jacobian."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from shine_exp.types import InverseEstimate


@dataclass(frozen=True)
class Cell:
    """g(z) = z − tanh(W_i z + b_i) with ‖W_i‖₂ = gain_i: W (batch, d, d), b and z (batch, d)."""

    weight: Tensor
    bias: Tensor

    @staticmethod
    def draw(
        gains: Sequence[float], d: int, seed: int, dtype: torch.dtype = torch.float64
    ) -> "Cell":
        random = torch.Generator().manual_seed(seed)
        weight = torch.randn(len(gains), d, d, generator=random, dtype=torch.float64)
        scale = torch.tensor(gains, dtype=torch.float64) / torch.linalg.matrix_norm(weight, 2)
        weight *= scale[:, None, None]
        bias = torch.randn(len(gains), d, generator=random, dtype=torch.float64)
        return Cell(weight.to(dtype), bias.to(dtype))

    def __call__(self, z: Tensor) -> Tensor:
        return z - torch.tanh(torch.einsum("bij,bj->bi", self.weight, z) + self.bias)

    def sample(self, i: int) -> "Cell":
        return Cell(self.weight[i : i + 1], self.bias[i : i + 1])

    def jacobian(self, z: Tensor) -> Tensor:
        slope = 1 - torch.tanh(torch.einsum("bij,bj->bi", self.weight, z) + self.bias) ** 2
        return torch.eye(z.shape[-1], dtype=z.dtype) - slope[..., None] * self.weight

    @property
    def start(self) -> Tensor:
        return torch.zeros_like(self.bias)


@dataclass(frozen=True)
class Recorded:
    """g, and the points and values of every evaluation, oldest first."""

    g: Callable[[Tensor], Tensor]
    points: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    def __call__(self, z: Tensor) -> Tensor:
        value = self.g(z)
        self.points.append(z.detach().clone())
        self.values.append(value.detach().clone())
        return value

    def residuals(self) -> Tensor:
        """‖g‖ (evaluations, batch)."""
        return torch.stack(self.values).norm(dim=-1)

    def best(self) -> list[int]:
        """The number of the evaluation at which each sample's ‖g‖ was first at its least.

        A sample that stands still repeats its least ‖g‖ up to rounding.
        """
        residuals = self.residuals()
        least = residuals <= residuals.min(dim=0).values * (1 + 1e-12)
        return [int(repeats.nonzero()[0]) for repeats in least.T]


def dense(estimate: InverseEstimate, like: Tensor) -> Tensor:
    """H (batch, d, d), column by column from matvec, for vectors `like` (batch, d)."""
    unit = torch.eye(like.shape[-1], dtype=like.dtype)
    return torch.stack([estimate.matvec(e.expand_as(like)) for e in unit], dim=-1)


def dense_transposed(estimate: InverseEstimate, like: Tensor) -> Tensor:
    """Hᵀ (batch, d, d), column by column from rmatvec, for vectors `like` (batch, d)."""
    unit = torch.eye(like.shape[-1], dtype=like.dtype)
    return torch.stack([estimate.rmatvec(e.expand_as(like)) for e in unit], dim=-1)


def assert_estimate_is(estimate: InverseEstimate, expected: Tensor, tol: float = 1e-10) -> None:
    """Both products of the estimate are those of the matrices `expected` (batch, d, d)."""
    like = expected[..., 0]
    torch.testing.assert_close(dense(estimate, like), expected, rtol=tol, atol=tol)
    torch.testing.assert_close(dense_transposed(estimate, like), expected.mT, rtol=tol, atol=tol)
