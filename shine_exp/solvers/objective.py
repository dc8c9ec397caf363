"""What a minimiser sees of a function: points with a gradient, and rays that leave them.

A ray is asked for values and slopes only, so that an objective which can evaluate a whole line at
the price of one product (a linear model: X(θ + td) = Xθ + tXd) pays for a gradient once per
accepted step and never per trial.
"""

from collections.abc import Callable
from typing import Any, Protocol

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
    def state_dict(self) -> dict[str, Any]:
        """All that is known here, as numbers and tensors."""
        ...


class Objective(Protocol):
    """z ↦ G(z), which counts the gradients that it was asked for: `n_evals`."""

    n_evals: int

    def __call__(self, z: Tensor, /) -> Point: ...
    def load(self, saved: dict[str, Any]) -> Point:
        """The point whose `state_dict` was saved; nothing is evaluated again."""
        ...


class Smooth:
    """The objective of any function z ↦ (G(z), ∇G(z)); every trial on a ray costs an evaluation."""

    def __init__(self, value_and_gradient: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
        self.value_and_gradient = value_and_gradient
        self.n_evals = 0

    def __call__(self, z: Tensor) -> "SmoothPoint":
        return SmoothPoint(self, z)

    def load(self, saved: dict[str, Any]) -> "SmoothPoint":
        return SmoothPoint(self, saved["z"], (saved["value"], saved["gradient"]))


class SmoothPoint:
    """z, evaluated when it is first asked for its value or its gradient."""

    def __init__(
        self, objective: Smooth, z: Tensor, evaluated: tuple[float, Tensor] | None = None
    ) -> None:
        self.objective, self.z = objective, z
        self._evaluated = evaluated

    def _evaluate(self) -> tuple[float, Tensor]:
        if self._evaluated is None:
            value, gradient = self.objective.value_and_gradient(self.z)
            self.objective.n_evals += 1
            self._evaluated = float(value), gradient
        return self._evaluated

    @property
    def value(self) -> float:
        return self._evaluate()[0]

    @property
    def gradient(self) -> Tensor:
        return self._evaluate()[1]

    def ray(self, d: Tensor) -> "SmoothRay":
        return SmoothRay(self, d)

    def state_dict(self) -> dict[str, Any]:
        return {"z": self.z, "value": self.value, "gradient": self.gradient}


class SmoothRay:
    """z + t d; the point asked for last is kept, which is where a line search ends."""

    def __init__(self, start: SmoothPoint, d: Tensor) -> None:
        self.start, self.d = start, d
        self._last = (0.0, start)

    def __call__(self, t: float) -> tuple[float, float]:
        point = self.end(t)
        return point.value, float(point.gradient @ self.d)

    def end(self, t: float) -> SmoothPoint:
        if t != self._last[0]:
            self._last = (t, self.start.objective(self.start.z + t * self.d))
        return self._last[1]
