"""A bi-level problem,

    min over α of h(α) = F(α, θ*(α)),    θ*(α) = argmin over θ of G(α, θ),

    ∇h(α) = ∂F/∂α − ∇²_αθG u,    ∇²_θθG u = ∂F/∂θ,    all at (α, θ*(α)),

and all that a loop, a hypergradient or a study sees of one.
"""

from abc import ABC, abstractmethod
from functools import cached_property
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from shine_exp.errors import UserError
from shine_exp.randomness import generator
from shine_exp.solvers.objective import Objective, Point
from shine_exp.types import LinearOperator, SecantEstimate

POWER_STEPS = 20


class OuterValue(Protocol):
    """F at (α, θ) and its derivatives, each computed when it is first asked for."""

    @property
    def value(self) -> float: ...
    @property
    def gradient(self) -> Tensor:
        """∂F/∂θ (d,)."""
        ...

    @property
    def direct(self) -> Tensor | None:
        """∂F/∂α, in the shape of α; None where F does not depend on α directly."""
        ...


class Bound(NamedTuple):
    """L ≥ ‖∇²_θθG‖, and the products with it that were made to find L.

    `once`: those are paid at the first α, and serve all that follow.
    """

    value: float
    n_products: int
    once: bool = False


class Moved(NamedTuple):
    """An estimate at another α, None where it is dropped, and the products that this took."""

    estimate: SecantEstimate | None
    n_products: int = 0


class BilevelProblem(ABC):
    """G and F, their derivatives, where α may lie, and what is measured.

    α is one tensor of any shape, θ a vector (d,); both have the type and device that `start` gives
    them. G is smooth in θ and its minimum is a solution of ∇_θG = 0: a problem with a constraint
    on θ, or a penalty that is not differentiable, is out of reach.
    """

    solution = "minimum"  # what a solver must find
    lower: float | Tensor = -torch.inf  # bounds of α, which a search needs to be finite
    upper: float | Tensor = torch.inf

    @abstractmethod
    def start(self, seed: int) -> tuple[Tensor, Tensor]:
        """α₀ and θ₀ (d,)."""

    @abstractmethod
    def inner(self, alpha: Tensor, start: Point | None = None) -> Objective:
        """θ ↦ G(α, θ), for a minimiser.

        `start` is the point of another α whose θ the minimiser will begin at: what is known there
        and does not depend on α need not be computed again.
        """

    @abstractmethod
    def outer(self, alpha: Tensor, theta: Tensor) -> OuterValue:
        """F(α, θ)."""

    @abstractmethod
    def hessian(self, alpha: Tensor, point: Point) -> LinearOperator:
        """v ↦ ∇²_θθG(α, θ) v, (..., d) → (..., d), at a point θ of `inner(alpha)`."""

    @abstractmethod
    def cross(self, alpha: Tensor, theta: Tensor, u: Tensor) -> Tensor:
        """∇²_αθG(α, θ) u, (d,) → the shape of α."""

    def inner_gradient(self, alpha: Tensor, theta: Tensor) -> Tensor:
        """∇_θG(α, θ) (d,), differentiable in both: what unrolling needs."""
        raise UserError(
            f"{type(self).__name__} has no inner_gradient, which unrolling differentiates"
        )

    def smoothness(self, alpha: Tensor, point: Point) -> Bound:
        """L ≥ ‖∇²_θθG‖ near a point of `inner(alpha)`, here by the power method, which comes from
        below: 1.1 times what it found after 20 products.
        """
        hessian = self.hessian(alpha, point)
        v = torch.randn(point.z.shape, generator=generator(0), dtype=point.z.dtype).to(point.z)
        for _ in range(POWER_STEPS):
            v = hessian(v / v.norm())
        return Bound(1.1 * float(v.norm()), POWER_STEPS)

    def project(self, alpha: Tensor) -> Tensor:
        """The nearest α in the feasible set: the box of `lower` and `upper`."""
        lower, upper = (torch.as_tensor(bound).to(alpha) for bound in (self.lower, self.upper))
        return alpha.clamp(lower, upper)

    def moved(self, estimate: SecantEstimate, old: Tensor, new: Tensor, theta: Tensor) -> Moved:
        """What the estimate of (∇²_θθG)⁻¹ at α = old becomes at α = new, for a warm start at θ.

        Here it stays as it is: its pairs were measured at old. Each answer is an estimate of its
        own, since the solver changes it.
        """
        return Moved(estimate.copy())

    def evaluate(self, alpha: Tensor, theta: Tensor) -> dict[str, float]:
        """What is measured for the trace, off the clock: columns by name."""
        return {"outer_loss": self.outer(alpha, theta).value}

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The names that `evaluate` gives."""
        return tuple(self.evaluate(*self.start(0)))

    @property
    def sizes(self) -> dict[str, int]:
        """For run.json, such as the number of training rows."""
        return {}
