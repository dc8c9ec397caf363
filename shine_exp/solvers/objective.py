"""What a minimiser sees of a function G: points with a gradient, and rays that leave them.

A line search asks a ray for values and slopes only. An objective that can evaluate a whole line at
the price of one product (a linear model: X(θ + t d) = Xθ + t Xd) thus pays for a gradient once per
accepted step, and never per trial.
"""

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor

from shine_exp.types import PLAIN, InnerProduct


class Ray(Protocol):
    """The half-line z + t d, t ≥ 0."""

    def __call__(self, t: float) -> tuple[float, float]:
        """The value φ(t) = G(z + t d) and the slope φ'(t) = ∇G(z + t d)ᵀd."""
        ...

    def end(self, t: float) -> "Point":
        """The point z + t d."""
        ...


class Point(Protocol):
    """One point of an objective: z (d,), G(z), ∇G(z) (d,) and ‖∇G(z)‖."""

    @property
    def z(self) -> Tensor: ...
    @property
    def value(self) -> float: ...
    @property
    def gradient(self) -> Tensor: ...
    @property
    def gradient_norm(self) -> float: ...
    def ray(self, d: Tensor) -> Ray:
        """The half-line from here along d (d,)."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that is known of the point, as numbers and tensors."""
        ...


class Objective(Protocol):
    """z ↦ G(z); `n_evals` counts the gradients that it was asked for.

    ∇G is the gradient with respect to `inner_product`, in which its norm is taken.
    """

    n_evals: int

    @property
    def inner_product(self) -> InnerProduct: ...

    def __call__(self, z: Tensor, /) -> Point: ...
    def load(self, saved: dict[str, Any]) -> Point:
        """The point whose `state_dict` was saved; nothing is evaluated again."""
        ...


class Smooth:
    """The objective of any function z ↦ (G(z), ∇G(z)).

    Every trial on a ray costs an evaluation of both.
    """

    def __init__(
        self,
        value_and_gradient: Callable[[Tensor], tuple[Tensor, Tensor]],
        inner_product: InnerProduct = PLAIN,
    ) -> None:
        self.value_and_gradient = value_and_gradient
        self.inner_product = inner_product
        self.n_evals = 0

    def __call__(self, z: Tensor) -> "SmoothPoint":
        return SmoothPoint(self, z)

    def load(self, saved: dict[str, Any]) -> "SmoothPoint":
        return SmoothPoint(self, saved["z"], (saved["value"], saved["gradient"]))


class SmoothPoint:
    """A point z, evaluated when its value or its gradient is first asked for."""

    def __init__(
        self, objective: Smooth, z: Tensor, evaluated: tuple[float, Tensor] | None = None
    ) -> None:
        self.objective = objective
        self.z = z
        self._evaluated = evaluated

    def _evaluate(self) -> tuple[float, Tensor]:
        if self._evaluated is None:
            value, gradient = self.objective.value_and_gradient(self.z)
            self.objective.n_evals += 1
            self._evaluated = float(value), gradient
        return self._evaluated

    @property
    def value(self) -> float:
        value, _ = self._evaluate()
        return value

    @property
    def gradient(self) -> Tensor:
        _, gradient = self._evaluate()
        return gradient

    @property
    def gradient_norm(self) -> float:
        return float(self.objective.inner_product.norm(self.gradient))

    def ray(self, d: Tensor) -> "SmoothRay":
        return SmoothRay(self, d)

    def state_dict(self) -> dict[str, Any]:
        return {"z": self.z, "value": self.value, "gradient": self.gradient}


class SmoothRay:
    """z + t d, t ≥ 0; keeps its last point, since a line search ends where it looked last."""

    def __init__(self, start: SmoothPoint, d: Tensor) -> None:
        self.start = start
        self.d = d
        self._last_t = 0.0
        self._last_point = start

    def __call__(self, t: float) -> tuple[float, float]:
        point = self.end(t)
        return point.value, float(point.objective.inner_product(point.gradient, self.d))

    def end(self, t: float) -> SmoothPoint:
        if t != self._last_t:
            self._last_t = t
            self._last_point = self.start.objective(self.start.z + t * self.d)
        return self._last_point
