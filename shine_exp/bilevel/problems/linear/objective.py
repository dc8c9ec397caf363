"""The losses G and F of a linear model, at points that keep their margins.

    G(v) = Σ_train ℓ(x_iᵀw, y_i) + ½ ⟨penalty ∘ w, w⟩,    F(v) = Σ_outer ℓ(x_iᵀw, y_i)

Here v is w in some coordinates.
"""

from functools import cached_property
from typing import Any, Protocol

from torch import Tensor

from shine_exp.bilevel.problems.linear.coordinates import Coordinates
from shine_exp.types import InnerProduct


class Loss(Protocol):
    """ℓ(m, y) and its first two derivatives in the margin m, elementwise, y ∈ {−1, +1}."""

    largest_curvature: float  # sup |ℓ″|

    def value(self, m: Tensor, y: Tensor) -> Tensor: ...
    def first(self, m: Tensor, y: Tensor) -> Tensor: ...
    def second(self, m: Tensor, y: Tensor) -> Tensor: ...


class LinearOuterValue:
    """F and its gradient, from the margins of the outer rows (n,) and their labels y (n,)."""

    direct = None

    def __init__(self, coordinates: Coordinates, loss: Loss, margins: Tensor, y: Tensor) -> None:
        self._coordinates = coordinates
        self._loss = loss
        self._margins = margins
        self._y = y

    @cached_property
    def value(self) -> float:
        return float(self._loss.value(self._margins, self._y).sum())

    @cached_property
    def gradient(self) -> Tensor:
        return self._coordinates.outer_sum(self._loss.first(self._margins, self._y))


class LinearObjective:
    """v ↦ G(α, v) at fixed α; `n_evals` counts gradients, each one X w and one Xᵀ z."""

    def __init__(self, coordinates: Coordinates, loss: Loss, y: Tensor, penalty: Tensor) -> None:
        self.coordinates = coordinates
        self.loss = loss
        self.y = y
        self.penalty = penalty
        self.n_evals = 0
        # v, its margins and, if known, ∇G(α, v), of the one point that `know` was told of.
        self._known: tuple[Tensor, Tensor, Tensor | None] | None = None

    @property
    def inner_product(self) -> InnerProduct:
        return self.coordinates.inner_product

    def know(self, point: "LinearPoint") -> None:
        """Take over what a point of another α knows: a move of α then costs no pass over the data.

        The margins of the point do not depend on α, and its gradient only through the penalty.
        """
        gradient = point.known_gradient
        if gradient is not None:
            gradient = gradient + (self.penalty - point.objective.penalty) * point.z
        self._known = point.z, point.margins, gradient

    def __call__(self, v: Tensor) -> "LinearPoint":
        if self._known is not None:
            known, margins, gradient = self._known
            if v is known:
                return LinearPoint(self, v, margins, gradient)
        return LinearPoint(self, v, self.coordinates.train_margins(v))

    def load(self, saved: dict[str, Any]) -> "LinearPoint":
        return LinearPoint(self, saved["z"], saved["margins"], saved["gradient"])


class LinearPoint:
    """v, its margins m (n,), and ∇G there once it is asked for.

    The margins are kept: the value, the gradient, every ray from here and the Hessian need them,
    and each would take a pass over the data to find them anew.
    """

    def __init__(
        self,
        objective: LinearObjective,
        z: Tensor,
        margins: Tensor,
        gradient: Tensor | None = None,
    ) -> None:
        self.objective = objective
        self.z = z
        self.margins = margins
        self.known_gradient = gradient

    @cached_property
    def data_loss(self) -> float:
        """Σ ℓ(m_i, y_i)."""
        return float(self.objective.loss.value(self.margins, self.objective.y).sum())

    @cached_property
    def slopes(self) -> Tensor:
        """ℓ′(m_i, y_i) (n,)."""
        return self.objective.loss.first(self.margins, self.objective.y)

    @cached_property
    def value(self) -> float:
        objective = self.objective
        penalty = objective.inner_product(objective.penalty * self.z, self.z)
        return self.data_loss + 0.5 * float(penalty)

    @property
    def gradient(self) -> Tensor:
        if self.known_gradient is None:
            objective = self.objective
            self.known_gradient = objective.coordinates.train_sum(
                self.slopes, objective.penalty, self.z
            )
            objective.n_evals += 1
        return self.known_gradient

    @cached_property
    def gradient_norm(self) -> float:
        return float(self.objective.inner_product.norm(self.gradient))

    def ray(self, d: Tensor) -> "LinearRay":
        return LinearRay(self, d)

    def state_dict(self) -> dict[str, Any]:
        return {"z": self.z, "margins": self.margins, "gradient": self.gradient}


class LinearRay:
    """v + t d, t ≥ 0: with the margins of d, each value and slope costs O(n).

    It keeps its last point, since a line search ends where it looked last.
    """

    def __init__(self, start: LinearPoint, d: Tensor) -> None:
        self.start = start
        self.d = d
        objective = start.objective
        self.direction = objective.coordinates.train_margins(d)
        # ½ Σ_j penalty_j (θ_j + t d_j)² = offset + t slope + ½ t² curvature
        dot, penalised = objective.inner_product, objective.penalty * d
        self.offset = 0.5 * float(dot(objective.penalty * start.z, start.z))
        self.slope = float(dot(penalised, start.z))
        self.curvature = float(dot(penalised, d))
        self._last_t = 0.0
        self._last_point = start

    def __call__(self, t: float) -> tuple[float, float]:
        point = self.end(t)
        penalty = self.offset + t * self.slope + 0.5 * t * t * self.curvature
        slope = float(point.slopes @ self.direction) + self.slope + t * self.curvature
        return point.data_loss + penalty, slope

    def end(self, t: float) -> LinearPoint:
        if t != self._last_t:
            start = self.start
            margins = start.margins + t * self.direction
            self._last_t = t
            self._last_point = LinearPoint(start.objective, start.z + t * self.d, margins)
        return self._last_point
