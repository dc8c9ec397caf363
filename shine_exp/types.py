"""The vocabulary of the project: what a solver leaves behind and what an inverse method makes of
it.

Tensors everywhere. The last axis is the variable (length d); leading axes are a batch of
independent systems.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

G = TypeVar("G", contravariant=True)


class Status(StrEnum):
    """How an iteration ended. Failure is a value: whoever asked decides what it means."""

    CONVERGED = "converged"
    MAX_STEPS = "max_steps"
    STALLED = "stalled"  # no further decrease that floating point can see
    DIVERGED = "diverged"


class LinearInverse(Protocol):
    """H ≈ J⁻¹, applied and never formed.

    A product may be its argument itself, so neither is changed in place.
    """

    def matvec(self, v: Tensor) -> Tensor:
        """H v, shapes (..., d) → (..., d)."""
        ...

    def rmatvec(self, v: Tensor) -> Tensor:
        """Hᵀ v, shapes (..., d) → (..., d)."""
        ...


@dataclass(frozen=True)
class Solution:
    """What a solver hands on: an iterate z (..., d) with ‖g(z)‖ = residual (...), and H ≈ J⁻¹ if
    it has one.

    z is the last iterate of a minimiser and, of a root solver, the best one of each system.
    `converged` and `diverged` (...), bool, say which systems reached the tolerance and which met a
    number that is not finite; `status` is the worst of all.
    """

    z: Tensor
    inverse: LinearInverse | None
    residual: Tensor
    n_steps: int
    n_evals: int
    status: Status
    converged: Tensor
    diverged: Tensor


@dataclass(frozen=True)
class AdjointSystem:
    """Find u with Jᵀu = r to ‖Jᵀu − r‖ ≤ tol ‖r‖, where J = ∂g/∂z at the solution of the inner
    problem.

    `inverse` is the forward solver's estimate of J⁻¹ and `start` an earlier u, for the methods
    that use them.
    """

    vjp: Callable[[Tensor], Tensor]
    r: Tensor
    tol: float
    inverse: LinearInverse | None = None
    start: Tensor | None = None
    symmetric: bool = False

    @property
    def first_iterate(self) -> Tensor:
        """Where an iteration begins: `start`, else 0."""
        return torch.zeros_like(self.r) if self.start is None else self.start


@dataclass(frozen=True)
class Adjoint:
    """The answer u ≈ J⁻ᵀr (..., d) of an inverse method, and the number of products with J that it
    cost.

    `converged` (...), bool, says which systems reached the tolerance that was asked for; None
    where the method aims at none: SHINE, Jacobian-Free, a series cut after so many terms, a limit
    of steps that is part of the method. `fell_back` (...) marks the systems that a method with a
    fallback answered by it.
    """

    u: Tensor
    n_products: int
    status: Status
    converged: Tensor | None = None
    fell_back: Tensor | None = None

    @staticmethod
    def unchecked(u: Tensor) -> "Adjoint":
        """The first iterate u of a method that may make no product, which would say how good it
        is.
        """
        return Adjoint(u, 0, Status.MAX_STEPS, torch.zeros_like(u[..., 0], dtype=torch.bool))


class InverseMethod(Protocol):
    """A way to u ≈ J⁻ᵀr."""

    def __call__(self, system: AdjointSystem) -> Adjoint: ...


@dataclass(frozen=True)
class Awareness:
    """Outer-problem awareness (OPA): every `every`-th step the solver adds a secant pair along
    H·direction(z).
    """

    direction: Callable[[Tensor], Tensor]
    every: int


class Solver(Protocol[G]):
    """A way to z* with g(z*) = 0, ‖g(z)‖ ≤ tol (absolute).

    `inverse` is an estimate to start from, of the type that this solver leaves behind.
    """

    @property
    def finds(self) -> str:
        """A "minimum" or a "root"."""
        ...

    @property
    def leaves_inverse(self) -> bool:
        """Whether `Solution.inverse` is an estimate, which SHINE needs."""
        ...

    @property
    def takes_awareness(self) -> bool:
        """Whether OPA is possible."""
        ...

    def __call__(
        self,
        g: G,
        z0: Tensor,
        tol: float,
        *,
        awareness: Awareness | None = None,
        inverse: LinearInverse | None = None,
    ) -> Solution: ...


@runtime_checkable
class QuasiNewton(Protocol):
    """A solver whose inverse estimate is a function of its secant pairs, the rows of s and y (n,
    d), oldest first.
    """

    def estimate(self, s: Tensor, y: Tensor) -> LinearInverse | None: ...
