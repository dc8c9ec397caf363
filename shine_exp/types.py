"""The vocabulary: what a solver leaves behind, and what an inverse method makes of it.

    g(z*) = 0,    J = ∂g/∂z at z*,    H ≈ J⁻¹,    r = ∇F(z*),    u ≈ J⁻ᵀr

A *solver* finds z* and leaves an inverse *estimate* H. An inverse *method* turns H, or products
with Jᵀ, into the adjoint u. All vectors are tensors: the last axis is the variable (length d), and
the leading axes are a batch of independent systems.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, TypeVar, overload

import torch
from torch import Tensor

G = TypeVar("G", contravariant=True)


class Status(StrEnum):
    """How an iteration ended.

    Failure is a value and not an exception: the caller decides what it means.
    """

    CONVERGED = "converged"
    MAX_STEPS = "max_steps"
    STALLED = "stalled"  # no further decrease that floating point can see
    DIVERGED = "diverged"


# A status that is still to be told from masks on the device, by whoever asks.
Unread = Callable[[], Status]


class StatusField:
    """The field `status` of a result: given as a `Status`, or as a function that finds it.

    The function is called when the field is read, and not before: on a GPU a status that depends
    on masks waits for all work that was given to the device.
    """

    @overload
    def __get__(self, result: None, owner: type) -> "StatusField": ...
    @overload
    def __get__(self, result: object, owner: type) -> Status: ...
    def __get__(self, result: object | None, owner: type) -> "StatusField | Status":
        if result is None:  # asked by `dataclass`, for a default: there is none
            raise AttributeError("status")
        given = unread_status(result)
        return given if isinstance(given, Status) else given()

    def __set__(self, result: object, given: Status | Unread) -> None:
        vars(result)["_status"] = given


def unread_status(result: object) -> Status | Unread:
    """The status of a result as it was given, for another result: it is not read here."""
    given: Status | Unread = vars(result)["_status"]
    return given


@dataclass(frozen=True)
class InnerProduct:
    """⟨a, b⟩ over the last axis, of vectors that are written in one of two ways.

        a itself (d,):                             ⟨a, b⟩ = Σ_j a_j b_j
        a = Σ_i c_i x_i as (c, ⟨x_1, a⟩, …) (2n,): ⟨a, b⟩ = Σ_i c_i ⟨x_i, b⟩

    The second way is for vectors of a long space that lie in the span of n vectors x_i, with
    `n_coefficients` = n. Both are linear: a sum of vectors is the sum of the tensors.
    """

    n_coefficients: int | None = None

    @property
    def is_plain(self) -> bool:
        """Whether vectors are written as themselves."""
        return self.n_coefficients is None

    def left(self, a: Tensor) -> Tensor:
        """What of a is multiplied, entry by entry, with `right` of another vector."""
        return a if self.n_coefficients is None else a[..., : self.n_coefficients]

    def right(self, b: Tensor) -> Tensor:
        return b if self.n_coefficients is None else b[..., self.n_coefficients :]

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """⟨a, b⟩, shapes (..., d), (..., d) → (...)."""
        left, right = self.left(a), self.right(b)
        return left @ right if left.ndim == right.ndim == 1 else (left * right).sum(-1)

    def norm(self, a: Tensor) -> Tensor:
        """‖a‖, (..., d) → (...)."""
        if self.is_plain:
            norm: Tensor = torch.linalg.vector_norm(a, dim=-1)
            return norm
        # Of a vector that is 0 but for rounding, c · ⟨x, a⟩ may be negative.
        return self(a, a).clamp_min(0).sqrt()


PLAIN = InnerProduct()


def take_any_inner_product(*parts: object) -> bool:
    """Whether all parts say `any_inner_product = True`; others know the plain one only."""
    return all(getattr(part, "any_inner_product", False) for part in parts)


class InverseEstimate(Protocol):
    """H ≈ J⁻¹, applied and never formed.

    A product may share memory with its argument (H = I returns v itself), so nobody changes
    either of them in place.
    """

    def matvec(self, v: Tensor) -> Tensor:
        """H v, shapes (..., d) → (..., d)."""
        ...

    def rmatvec(self, v: Tensor) -> Tensor:
        """Hᵀ v, shapes (..., d) → (..., d)."""
        ...


class SecantEstimate(InverseEstimate, Protocol):
    """A symmetric H from secant pairs (s, y) with y ≈ J s, kept from one α to the next.

    `copy`, `shifted` and `remeasured` answer with a new estimate, which shares nothing that a
    solver would change.
    """

    def pairs(self) -> tuple[Tensor, Tensor]:
        """S and Y (n, d), a pair in each row, oldest first."""
        ...

    def copy(self) -> "SecantEstimate":
        """The same estimate, to be changed on its own."""
        ...

    def shifted(self, diagonal: Tensor) -> "SecantEstimate":
        """The estimate of the pairs (s, y + diagonal ∘ s), for J + diag(diagonal)."""
        ...

    def remeasured(self, product: Callable[[Tensor], Tensor]) -> "SecantEstimate":
        """The estimate of the pairs (s, product(s)), at the cost of one product per pair."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """The whole estimate, as numbers and tensors."""
        ...


@dataclass(frozen=True)
class LinearOperator:
    """v ↦ A v, shapes (..., d) → (..., d), and what is known of the structure of A.

    With `symmetric`, ⟨A a, b⟩ = ⟨a, A b⟩ in the inner product of the vectors.
    """

    matvec: Callable[[Tensor], Tensor]
    symmetric: bool = False
    inner_product: InnerProduct = PLAIN

    def __call__(self, v: Tensor) -> Tensor:
        return self.matvec(v)


@dataclass(frozen=True)
class Solution:
    """What a solver hands on: z with ‖g(z)‖ = `residual`, and H ≈ J⁻¹ if it has one.

    z (..., d) is the last iterate of a minimiser, and the best iterate of each system of a root
    solver. `residual`, and the masks `converged` and `diverged`, have the shape (...) of the
    batch: which systems reached the tolerance, and which met a number that is not finite.
    `status` is the worst of all systems, found when it is read. `point` is z with all that a
    minimiser knows there (`solvers.objective.Point`).
    """

    z: Tensor
    estimate: InverseEstimate | None
    residual: Tensor
    n_steps: int
    n_evals: int
    status: StatusField = StatusField()
    converged: Tensor  # type: ignore[misc]  # a StatusField is no default
    diverged: Tensor  # type: ignore[misc]
    point: Any = None


@dataclass(frozen=True)
class AdjointSystem:
    """Find u with A u = r to ‖A u − r‖ ≤ tol ‖r‖, where A = Jᵀ and J = ∂g/∂z at z*.

    `operator` is A. `estimate` is the forward solver's H ≈ J⁻¹, and `start` an earlier u, for the
    methods that use them.
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

    `converged` (...), bool, says which systems reached the tolerance. It is None for a method
    that aims at no tolerance: SHINE, Jacobian-Free, a series with a fixed number of terms, or a
    limit of steps that is part of the method. `fell_back` (...), bool, marks the systems for
    which a method with a fallback took it.
    """

    u: Tensor
    n_products: int
    status: StatusField = StatusField()
    converged: Tensor | None = None
    fell_back: Tensor | None = None

    @staticmethod
    def unchecked(u: Tensor) -> "Adjoint":
        """The answer of a method that is allowed no product: its first iterate u.

        Without a product nobody knows how good u is, so no system counts as converged.
        """
        return Adjoint(u, 0, Status.MAX_STEPS, torch.zeros_like(u[..., 0], dtype=torch.bool))


class InverseMethod(Protocol):
    """A way to the adjoint u ≈ J⁻ᵀr.

    A method with `any_inner_product = True` takes all norms and products of vectors from
    `system.operator.inner_product`; others are given vectors that are written as themselves.
    """

    def __call__(self, system: AdjointSystem) -> Adjoint: ...


@dataclass(frozen=True)
class Outer:
    """What a solver with OPA is told: z ↦ ∇F(z), and how many outer steps are left.

    OPA, outer-problem awareness, sharpens H along the direction in which the hypergradient will
    apply it (Ramzi et al. 2022, section 3).
    """

    gradient: Callable[[Tensor], Tensor]
    steps_left: int = 1


class Solver(Protocol[G]):
    """A way to z* with g(z*) = 0, which stops where ‖g(z)‖ ≤ tol (absolute).

    `estimate` is an H to start from, of the type that this solver leaves behind; the solver may
    change it. A solver with a field `opa` makes an extra update in the direction of ∇F(z) every
    `opa` steps, provided that it is told `outer`. A minimiser with `any_inner_product = True` takes
    all norms and products of vectors from `g.inner_product`; others are given vectors that are
    written as themselves.
    """

    @property
    def finds(self) -> str:
        """What the solver finds: a "minimum" or a "root"."""
        ...

    @property
    def leaves_estimate(self) -> bool:
        """Whether the solver leaves a `Solution.estimate`, which SHINE needs."""
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


class KeepsEstimate(Protocol):
    """A solver whose estimate a loop keeps from one α to the next, and saves with its state."""

    def load_estimate(self, saved: dict[str, Any]) -> SecantEstimate:
        """The estimate whose `state_dict` was saved."""
        ...
