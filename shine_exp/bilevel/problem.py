"""A bi-level problem, and all that a loop, a hypergradient or a study sees of one.

    min over α of h(α) = F(α, θ*(α)),    θ*(α) = argmin over θ of G(α, θ)

    ∇h(α) = ∂F/∂α − ∇²_αθG u,    ∇²_θθG u = ∂F/∂θ,    all at (α, θ*(α))

G is the inner loss, F the outer loss, and u the adjoint.
"""

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from shine_exp.errors import UserError
from shine_exp.randomness import generator
from shine_exp.solvers.objective import Objective, Point
from shine_exp.types import LinearOperator, SecantEstimate

POWER_STEPS = 20


class OuterValue(Protocol):
    """F at (α, θ) and its derivatives, computed when they are first asked for."""

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
    """L ≥ ‖∇²_θθG‖, and the number of products with ∇²_θθG that it took to find L.

    With `once`, these products were made at the first α, and serve all that follow.
    """

    value: float
    n_products: int
    once: bool = False


class Moved(NamedTuple):
    """An estimate at another α (None: it is dropped), and the products that this took."""

    estimate: SecantEstimate | None
    n_products: int = 0


class BilevelProblem(ABC):
    """G and F with their derivatives, where α may lie, and what a trace holds of the two.

    α is one tensor of any shape, and θ a vector (d,); both have the dtype and device that `start`
    gives them. G must be smooth in θ, with its minimum where ∇_θG = 0: a problem with a constraint
    on θ, or with a penalty that is not differentiable, is out of reach.
    """

    # What a solver must find.
    seeks = "minimum"
    # Bounds of α; a search needs finite ones.
    lower: float | Tensor = -torch.inf
    upper: float | Tensor = torch.inf

    @abstractmethod
    def start(self, seed: int) -> tuple[Tensor, Tensor]:
        """α₀ and θ₀ (d,)."""

    @abstractmethod
    def inner(self, alpha: Tensor, start: Point | None = None) -> Objective:
        """θ ↦ G(α, θ), for a minimiser.

        `start` is a point of any α, at whose θ the minimiser will begin. What is known there and
        does not depend on α need not be computed again.
        """

    @abstractmethod
    def outer(self, alpha: Tensor, theta: Tensor) -> OuterValue:
        """F(α, θ)."""

    @abstractmethod
    def hessian(self, alpha: Tensor, point: Point) -> LinearOperator:
        """v ↦ ∇²_θθG(α, θ) v, (..., d) → (..., d), at a point θ of `inner(alpha)`."""

    @abstractmethod
    def cross(self, alpha: Tensor, theta: Tensor, u: Tensor) -> Tensor:
        """∇²_αθG(α, θ) u, from u (d,) to the shape of α."""

    def inner_gradient(self, alpha: Tensor, theta: Tensor) -> Tensor:
        """∇_θG(α, θ) (d,), differentiable in α and θ: what unrolling needs.

        Raises `UserError` where a problem does not offer it.
        """
        raise UserError(
            f"{type(self).__name__} has no inner_gradient, which unrolling differentiates"
        )

    def smoothness(self, alpha: Tensor, point: Point) -> Bound:
        """L ≥ ‖∇²_θθG‖ near a point of `inner(alpha)`: what unrolling takes its step 1/L from.

        Here it is 1.1 times what the power method finds after `POWER_STEPS` products, since that
        comes from below.
        """
        hessian = self.hessian(alpha, point)
        v = torch.randn(point.z.shape, generator=generator(0), dtype=point.z.dtype).to(point.z)
        for _ in range(POWER_STEPS):
            v = hessian(v / v.norm())
        return Bound(1.1 * float(v.norm()), POWER_STEPS)

    def check(self) -> None:  # noqa: B027
        """Raises `UserError` where G and F cannot be those of a bi-level problem.

        Here nothing is known of them, and nothing is refused.
        """

    def project(self, alpha: Tensor) -> Tensor:
        """The nearest α in the feasible set: the box of `lower` and `upper`."""
        lower, upper = (torch.as_tensor(bound).to(alpha) for bound in (self.lower, self.upper))
        return alpha.clamp(lower, upper)

    def moved(self, estimate: SecantEstimate, old: Tensor, new: Tensor, theta: Tensor) -> Moved:
        """The estimate of (∇²_θθG)⁻¹ at α = old, made ready for a warm start at α = new from θ.

        Here its pairs stay as they were measured at `old`. The answer is always an estimate of its
        own, since the solver will change it.
        """
        return Moved(estimate.copy())

    def as_given(self, alpha: Tensor, theta: Tensor) -> tuple[Any, Any]:
        """α and θ in the variables that the problem was given in, for whoever uses the result.

        Here they are the same; a problem that solves in other variables changes them back.
        """
        return alpha, theta

    def evaluate(self, alpha: Tensor, theta: Tensor) -> dict[str, float]:
        """What the trace holds of (α, θ): column → value. The time it takes is not the run's."""
        return {"outer_loss": self.outer(alpha, theta).value}

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns that `evaluate` gives."""
        return tuple(self.evaluate(*self.start(0)))

    @property
    def sizes(self) -> dict[str, Any]:
        """Facts for run.json, such as the number of training rows."""
        return {}
