"""What a minimiser sees of a function: points with a gradient, and rays that leave them.

A ray is asked for values and slopes only, so that an objective which can evaluate a whole line at
the price of one product (a linear model: X(θ + td) = Xθ + tXd) pays for a gradient once per
accepted step and never per trial.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from torch import Tensor


class Ray(Protocol):
    """The half-line z + t d, t ≥ 0."""

    def __call__(self, t: float) -> tuple[float, float]:
        """Value φ(t) = G(z + t d) and slope φ'(t) = ∇G(z + t d)ᵀd."""
        ...

    def end(self, t: float) -> "Point":
        """The point z + t d."""
        ...


class Point(Protocol):
    """One point of an objective: z (d,), G(z) and ∇G(z) (d,)."""

    @property
    def z(self) -> Tensor: ...
    @property
    def value(self) -> float: ...
    @property
    def gradient(self) -> Tensor: ...
    def ray(self, d: Tensor) -> Ray: ...


Objective = Callable[[Tensor], Point]


@dataclass(frozen=True)
class Smooth:
    """The objective of any function z → (G(z), ∇G(z)); every trial on a ray costs one evaluation."""

    value_and_gradient: Callable[[Tensor], tuple[Tensor, Tensor]]

    def __call__(self, z: Tensor) -> "SmoothPoint":
        return SmoothPoint(z, self.value_and_gradient)


@dataclass(frozen=True)
class SmoothPoint:
    z: Tensor
    function: Callable[[Tensor], tuple[Tensor, Tensor]]

    @cached_property
    def _evaluated(self) -> tuple[Tensor, Tensor]:
        return self.function(self.z)

    @property
    def value(self) -> float:
        return float(self._evaluated[0])

    @property
    def gradient(self) -> Tensor:
        return self._evaluated[1]

    def ray(self, d: Tensor) -> "SmoothRay":
        return SmoothRay(self, d)


class SmoothRay:
    def __init__(self, start: SmoothPoint, d: Tensor) -> None:
        self.start, self.d = start, d
        self._last = (0.0, start)

    def __call__(self, t: float) -> tuple[float, float]:
        point = self.end(t)
        return point.value, float(point.gradient @ self.d)

    def end(self, t: float) -> SmoothPoint:
        if t != self._last[0]:
            self._last = (t, SmoothPoint(self.start.z + t * self.d, self.start.function))
        return self._last[1]
