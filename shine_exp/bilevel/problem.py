"""A bi-level problem,

    min over α of h(α) = F(α, θ*(α)),    θ*(α) = argmin over θ of G(α, θ),

    ∇h(α) = ∂F/∂α − ∇²_αθG u,    ∇²_θθG u = ∂F/∂θ,    all at (α, θ*(α)),

and all that a loop, a hypergradient or a study sees of one.
"""

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from shine_exp.solvers.inverse_hessian import InverseHessian
from shine_exp.solvers.objective import Objective, Point
from shine_exp.types import LinearOperator


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

    def project(self, alpha: Tensor) -> Tensor:
        """The nearest α in the feasible set: the box of `lower` and `upper`."""
        lower, upper = (torch.as_tensor(bound).to(alpha) for bound in (self.lower, self.upper))
        return alpha.clamp(lower, upper)

    def moved(self, estimate: InverseHessian, old: Tensor, new: Tensor) -> InverseHessian | None:
        """What the estimate of (∇²_θθG)⁻¹ at α = old becomes at α = new, for a warm start: another
        object, since the solver changes it. None drops it.

        As it is: its pairs were measured at old.
        """
        return estimate.copy()

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
