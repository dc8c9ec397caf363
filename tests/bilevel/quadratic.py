"""A bi-level problem with known answers, its one-step solver, and wrong hypergradients."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from shine_exp.bilevel.hypergradients import Hypergradient
from shine_exp.bilevel.inner_solution import InnerSolution
from shine_exp.bilevel.problem import BilevelProblem
from shine_exp.solvers.objective import Objective, Point, Smooth
from shine_exp.types import LinearOperator, Solution, Status


@dataclass(frozen=True)
class OuterValue:
    """F = 1 + ‖θ − 2‖², or NaN where an entry of θ lies beyond a limit."""

    theta: Tensor
    beyond: float
    direct = None

    @property
    def value(self) -> float:
        square = float((self.theta - 2).square().sum())
        return math.nan if bool((self.theta > self.beyond).any()) else 1.0 + square

    @property
    def gradient(self) -> Tensor:
        return 2 * (self.theta - 2)


@dataclass
class Quadratic(BilevelProblem):
    """G = ½ ‖θ − α‖², so that θ*(α) = α, h(α) = 1 + ‖α − 2‖² and ∇h(α) = 2 (α − 2)."""

    n: int = 1
    beyond: float = math.inf
    lower: float = -12.0
    upper: float = 12.0
    columns = ("outer_loss",)

    def start(self) -> tuple[Tensor, Tensor]:
        return torch.zeros(self.n, dtype=torch.float64), torch.ones(self.n, dtype=torch.float64)

    def inner(self, alpha: Tensor, start: Point | None = None) -> Smooth:
        return Smooth(lambda theta: (0.5 * (theta - alpha) @ (theta - alpha), theta - alpha))

    def outer(self, alpha: Tensor, theta: Tensor) -> OuterValue:
        return OuterValue(theta, self.beyond)

    def hessian(self, alpha: Tensor, point: Point) -> LinearOperator:
        return LinearOperator(lambda v: v, symmetric=True)

    def cross(self, alpha: Tensor, theta: Tensor, u: Tensor) -> Tensor:
        return -u


@dataclass(frozen=True)
class OneStep:
    """θ ← θ − ∇_θG, which is θ*; `n_steps` is what it claims to have taken."""

    n_steps: int = 1
    finds = "minimum"
    leaves_estimate = uses_estimate = False

    def __call__(self, g: Objective, z0: Tensor, tol: float, **told: Any) -> Solution:
        z = z0 - g(z0).gradient
        residual = g(z).gradient.norm()
        return Solution(
            z=z,
            estimate=None,
            residual=residual,
            n_steps=self.n_steps,
            n_evals=1,
            status=Status.CONVERGED,
            converged=torch.tensor(True),
            diverged=torch.tensor(False),
        )


@dataclass(frozen=True)
class Wrong:
    """The exact hypergradient times factors that take turns, and NaN from some call on."""

    factors: list[float]
    nan_from: int = 10**9
    calls: list[Tensor] = field(default_factory=list)

    def check(self, problem: BilevelProblem) -> None:
        """Any problem will do."""

    def __call__(
        self,
        problem: BilevelProblem,
        at: InnerSolution,
        tol: float,
        previous: Hypergradient | None = None,
    ) -> Hypergradient:
        self.calls.append(at.alpha)
        factor = self.factors[len(self.calls) % len(self.factors)]
        found = Hypergradient(at.alpha, 2 * (at.alpha - 2) * factor, 3, solved=True)
        broken = len(self.calls) >= self.nan_from
        return replace(found, value=found.value * math.nan) if broken else found
