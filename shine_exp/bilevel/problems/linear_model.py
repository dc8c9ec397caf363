"""Regularised linear models as bi-level problems: one hyperparameter, or one per group of features.

    G(α, θ) = Σ_train ℓ(x_iᵀθ, y_i) + ½ Σ_j e^{α_g(j)} θ_j²          F(θ) = Σ_outer ℓ(x_iᵀθ, y_i)

with α (k,) and g(j) the group of feature j. Sums, not means, as in Ramzi et al. 2022, section 4.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from shine_exp.bilevel.problems.design_matrix import DesignMatrix, column_scales, scaled_columns
from shine_exp.bilevel.problems.feature_groups import feature_groups
from shine_exp.data.dataset import Dataset
from shine_exp.data.io.files import InputFile
from shine_exp.data.splits import Splits, split


class Loss(Protocol):
    """ℓ(m, y) and its first two derivatives in the margin m, elementwise; labels y ∈ {−1, +1}."""

    def value(self, m: Tensor, y: Tensor) -> Tensor: ...
    def first(self, m: Tensor, y: Tensor) -> Tensor: ...
    def second(self, m: Tensor, y: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Evaluation:
    """What is only measured, off the clock: mean losses of the outer and the held-out set, and
    held-out accuracy.
    """

    outer_loss: float
    test_loss: float
    accuracy: float


@dataclass(frozen=True)
class Part:
    """One of the three sets of rows."""

    x: DesignMatrix
    y: Tensor


class LinearModel:
    """The bi-level problem of a loss ℓ on three sets of rows.

    Where the largest and the smallest column of X differ by more than a factor of 10⁶, θ_j = s_j
    φ_j is solved for in φ, with columns s_j x_j of a length near 1 and the penalty ½ e^α s_j²
    φ_j²: the same problem, in numbers that a minimiser can handle. `scales` holds s (p,), powers
    of 2 so that nothing is rounded, or None.
    """

    solution = "minimum"
    data_type = Dataset
    sets = staticmethod(split)

    def __init__(self, loss: Loss, splits: Splits, groups: int | InputFile, device: str) -> None:
        self.loss = loss
        scales = column_scales(splits.train[0])
        self.scales = None if scales is None else torch.from_numpy(scales).to(device)
        self.train, self.outer_set, self.test = (
            Part(
                DesignMatrix(x if scales is None else scaled_columns(x, scales), device),
                torch.as_tensor(y, dtype=torch.float64, device=device),
            )
            for x, y in (splits.train, splits.outer, splits.test)
        )
        self.n_features = self.train.x.shape[1]
        self.groups = feature_groups(groups, self.n_features).to(device)
        self.n_hyperparameters = int(self.groups.max()) + 1
        self.device = device
        self.sizes = {
            "n_train": len(splits.train[1]),
            "n_outer": len(splits.outer[1]),
            "n_test": len(splits.test[1]),
        }

    def penalty(self, alpha: Tensor) -> Tensor:
        """e^{α_g(j)} s_j² for every feature: (k,) → (p,), or (1,) where there is one group and no
        scale.
        """
        penalty = alpha.exp() if self.n_hyperparameters == 1 else alpha.exp()[self.groups]
        return penalty if self.scales is None else penalty * self.scales**2

    def start(self, theta: Tensor) -> Tensor:
        """θ (p,) in the variables that are solved for."""
        return theta if self.scales is None else theta / self.scales

    def inner(self, alpha: Tensor) -> "InnerObjective":
        """θ → G(α, θ), for a minimiser."""
        return InnerObjective(self.train, self.loss, self.penalty(alpha))

    def inner_gradient(self, alpha: Tensor, theta: Tensor) -> Tensor:
        """∇₂G(α, θ) (p,), differentiable in both arguments."""
        x, y = self.train.x, self.train.y
        return x.rmatvec(self.loss.first(x.matvec(theta), y)) + self.penalty(alpha) * theta

    def hessian(self, alpha: Tensor, theta: Tensor) -> Callable[[Tensor], Tensor]:
        """v → ∇²₂₂G(α, θ) v, (..., p) → (..., p); each call is one product, and the first one also
        takes Xθ.
        """
        x, penalty = self.train.x, self.penalty(alpha)
        curvature = cache(lambda: self.loss.second(x.matvec(theta), self.train.y))
        return lambda v: x.rmatvec(curvature() * x.matvec(v)) + penalty * v

    def cross(self, alpha: Tensor, theta: Tensor, v: Tensor) -> Tensor:
        """∇²₁₂G(α, θ) v: e^{α_j} s_j² θ_j v_j summed inside each group, (..., p) → (..., k)."""
        contributions = self.penalty(alpha) * theta * v
        if self.n_hyperparameters == 1:
            return contributions.sum(-1, keepdim=True)
        sums = contributions.new_zeros(*v.shape[:-1], self.n_hyperparameters)
        return sums.index_add_(-1, self.groups, contributions)

    def outer(self, theta: Tensor) -> tuple[float, Tensor]:
        """F(θ) and ∇F(θ) (p,)."""
        x, y = self.outer_set.x, self.outer_set.y
        margins = x.matvec(theta)
        return float(self.loss.value(margins, y).sum()), x.rmatvec(self.loss.first(margins, y))

    def evaluate(self, theta: Tensor) -> Evaluation:
        """Mean losses and accuracy at θ."""
        outer, test = self.outer_set.x.matvec(theta), self.test.x.matvec(theta)
        return Evaluation(
            outer_loss=float(self.loss.value(outer, self.outer_set.y).mean()),
            test_loss=float(self.loss.value(test, self.test.y).mean()),
            accuracy=float((torch.sign(test) == self.test.y).double().mean()),
        )

    @cached_property
    def train_norm(self) -> "Norm":
        """‖X_train‖₂², by the power method on XᵀX to a relative 1e-3, from below."""
        v = torch.ones(self.n_features, dtype=torch.float64, device=self.device)
        square, last, n_products = 0.0, -1.0, 0
        while square - last > 1e-3 * square:
            v = self.train.x.rmatvec(self.train.x.matvec(v / v.norm()))
            square, last, n_products = float(v.norm()), square, n_products + 1
        return Norm(square, n_products)


class Norm(NamedTuple):
    """‖X‖₂², and the products with XᵀX that it took."""

    square: float
    n_products: int


@dataclass(frozen=True)
class InnerObjective:
    """θ → G(α, θ) at fixed α."""

    train: Part
    loss: Loss
    penalty: Tensor

    def __call__(self, theta: Tensor) -> "LinearPoint":
        return LinearPoint(self, theta, self.train.x.matvec(theta))


@dataclass(frozen=True)
class LinearPoint:
    """θ and its margins Xθ."""

    objective: InnerObjective
    z: Tensor
    margins: Tensor

    @cached_property
    def value(self) -> float:
        data = self.objective.loss.value(self.margins, self.objective.train.y).sum()
        return float(data + 0.5 * (self.objective.penalty * self.z) @ self.z)

    @cached_property
    def gradient(self) -> Tensor:
        train = self.objective.train
        slopes = self.objective.loss.first(self.margins, train.y)
        return train.x.rmatvec(slopes).addcmul_(self.objective.penalty, self.z)

    def ray(self, d: Tensor) -> "LinearRay":
        return LinearRay(self, d)


class LinearRay:
    """θ + t d: after the one product X d, each value and slope costs O(n)."""

    def __init__(self, start: LinearPoint, d: Tensor) -> None:
        self.start, self.d = start, d
        self.direction = start.objective.train.x.matvec(d)
        penalised = start.objective.penalty * d
        self.quadratic = (
            float(start.z @ penalised),
            float(d @ penalised),
        )  # slope and curvature of the penalty
        self.offset = 0.5 * float((start.objective.penalty * start.z) @ start.z)

    def __call__(self, t: float) -> tuple[float, float]:
        loss, y = self.start.objective.loss, self.start.objective.train.y
        margins = self.start.margins + t * self.direction
        slope, curvature = self.quadratic
        value = (
            float(loss.value(margins, y).sum()) + self.offset + t * slope + 0.5 * t * t * curvature
        )
        return value, float(loss.first(margins, y) @ self.direction) + slope + t * curvature

    def end(self, t: float) -> LinearPoint:
        start = self.start
        return LinearPoint(
            start.objective, start.z + t * self.d, start.margins + t * self.direction
        )
