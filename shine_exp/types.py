"""The vocabulary: what a solver leaves behind, and what an inverse method makes of it.

    g(z*) = 0,    J = ∂g/∂z at z*,    H ≈ J⁻¹,    r = ∇F(z*),    u ≈ J⁻ᵀr

A *solver* finds z* and leaves an inverse *estimate* H. An inverse *method* turns H, or products
with Jᵀ, into u. Tensors everywhere. The last axis is the variable (length d); leading axes are a
batch of independent systems.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

G = TypeVar("G", contravariant=True)


class Status(StrEnum):
    """How an iteration ended. Failure is a value: whoever asked decides what it means."""

    CONVERGED = "converged"
    MAX_STEPS = "max_steps"
    STALLED = "stalled"  # no further decrease that floating point can see
    DIVERGED = "diverged"


class InverseEstimate(Protocol):
    """H ≈ J⁻¹, applied and never formed.

    A product may be its argument itself, so neither is changed in place.
    """

    def matvec(self, v: Tensor) -> Tensor:
        """H v, shapes (..., d) → (..., d)."""
        ...

    def rmatvec(self, v: Tensor) -> Tensor:
        """Hᵀ v, shapes (..., d) → (..., d)."""
        ...


class SecantEstimate(InverseEstimate, Protocol):
    """H of secant pairs (s, y) with y ≈ J s, symmetric, which a loop keeps from one α to the next.

    Each of the first three gives an estimate that can be changed on its own.
    """

    def copy(self) -> "SecantEstimate": ...
    def shifted(self, diagonal: Tensor) -> "SecantEstimate":
        """That of the pairs (s, y + diagonal ∘ s): diag(diagonal) was added to J."""
        ...

    def remeasured(self, product: Callable[[Tensor], Tensor]) -> "SecantEstimate":
        """That of the pairs (s, product(s)); one product per pair."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All of it, as numbers and tensors."""
        ...


@dataclass(frozen=True)
class LinearOperator:
    """v ↦ A v, shapes (..., d) → (..., d), and what is known of the structure of A."""

    matvec: Callable[[Tensor], Tensor]
    symmetric: bool = False

    def __call__(self, v: Tensor) -> Tensor:
        return self.matvec(v)


@dataclass(frozen=True)
class Solution:
    """What a solver hands on: an iterate z (..., d) with ‖g(z)‖ = residual (...), and H ≈ J⁻¹ if
    it has one.

    z is the last iterate of a minimiser and, of a root solver, the best one of each system.
    `converged` and `diverged` (...), bool, say which systems reached the tolerance and which met a
    number that is not finite; `status` is the worst of all. `point` is z with what a minimiser
    knows there (`solvers.objective.Point`).
    """

    z: Tensor
    estimate: InverseEstimate | None
    residual: Tensor
    n_steps: int
    n_evals: int
    status: Status
    converged: Tensor
    diverged: Tensor
    point: Any = None


@dataclass(frozen=True)
class AdjointSystem:
    """Find u with A u = r, A = Jᵀ, to ‖A u − r‖ ≤ tol ‖r‖, J = ∂g/∂z at the inner solution.

    `estimate` is the forward solver's H ≈ J⁻¹ and `start` an earlier u, for the methods that use
    them.
    """

    operator: LinearOperator
    r: Tensor
    tol: float
    estimate: InverseEstimate | None = None
    start: Tensor | None = None

    @property
    def first_iterate(self) -> Tensor:
        """Where an iteration begins: `start`, else 0."""
        return torch.zeros_like(self.r) if self.start is None else self.start


@dataclass(frozen=True)
class Adjoint:
    """The answer u ≈ J⁻ᵀr (..., d) of an inverse method, and how many products with J it cost.

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
class Outer:
    """What a solver with outer-problem awareness (OPA) is told: z ↦ ∇F(z), and how many outer
    steps follow.
    """

    gradient: Callable[[Tensor], Tensor]
    steps_left: int = 1


class Solver(Protocol[G]):
    """A way to z* with g(z*) = 0, ‖g(z)‖ ≤ tol (absolute).

    `estimate` is one to start from, of the type that this solver leaves behind; it may be changed.
    A solver with a field `opa` adds extra pairs along H ∇F(z) every so many steps, where it is
    told `outer` (Ramzi et al. 2022, section 3).
    """

    @property
    def finds(self) -> str:
        """A "minimum" or a "root"."""
        ...

    @property
    def leaves_estimate(self) -> bool:
        """Whether `Solution.estimate` is one, which SHINE needs."""
        ...

    @property
    def uses_estimate(self) -> bool:
        """Whether the solver starts from the estimate that it is given."""
        ...

    def __call__(
        self,
        g: G,
        z0: Tensor,
        tol: float,
        *,
        outer: Outer | None = None,
        estimate: InverseEstimate | None = None,
    ) -> Solution: ...
