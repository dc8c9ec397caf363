"""Weighted multinomial logistic regression, products by hand: the core of several problems.

    G(α, Θ) = Σ_i w_i(α) ℓ(Θx_i, y_i) + ½ Σ_kj c_kj(α) Θ_kj²,    F(Θ) = Σ_outer ℓ(Θx_i, y_i)

    ℓ(s, y) = log Σ_k e^{s_k} − s_y,    ∂ℓ/∂s = π − e_y,    ∂²ℓ/∂s² = diag(π) − ππᵀ

π = softmax(s), and e_y is the indicator of class y.

Θ is (K, p) for K classes and p features; a solver sees θ, its rows one after the other. The scores
S = ΘXᵀ are (K, n). Sums and not means, as in `linear.model`. Σ_k Θ_kj is not fixed by the data, but
by the penalty: every c_kj must be above 0.
"""

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from shine_exp.bilevel.problem import BilevelProblem
from shine_exp.bilevel.problems.design_matrix import DesignMatrix
from shine_exp.data.multiclass import LabelledRows, MulticlassSplits
from shine_exp.solvers.objective import Point
from shine_exp.types import PLAIN, LinearOperator


@dataclass(frozen=True)
class ClassedRows:
    """X (n, p), and the labels (n,) with their indicators e_y (K, n)."""

    x: DesignMatrix
    labels: Tensor
    indicators: Tensor

    @staticmethod
    def of(rows: LabelledRows, n_classes: int, device: str) -> "ClassedRows":
        x, labels = rows
        on_device = torch.as_tensor(labels, device=device)
        indicators = torch.nn.functional.one_hot(on_device, n_classes).to(torch.float64).T
        return ClassedRows(DesignMatrix(x, device), on_device, indicators.contiguous())

    def losses(self, scores: Tensor) -> Tensor:
        """ℓ of every row (n,), from the scores (K, n)."""
        return scores.logsumexp(0) - (self.indicators * scores).sum(0)

    def slopes(self, scores: Tensor) -> Tensor:
        """∂ℓ/∂s of every row, (K, n) → (K, n)."""
        return scores.softmax(0) - self.indicators

    def accuracy(self, scores: Tensor) -> float:
        """The share of the rows whose own class has the largest score."""
        return float((scores.argmax(0) == self.labels).double().mean())


class MultinomialModel(BilevelProblem):
    """The bi-level problem of given splits; a subclass says what α weighs or penalises."""

    columns: tuple[str, ...] = ("outer_loss", "test_loss", "accuracy")

    def __init__(self, splits: MulticlassSplits, device: str) -> None:
        self.n_classes, self.device = splits.n_classes, device
        self.train, self.outer_set, self.test = (
            ClassedRows.of(rows, self.n_classes, device) for _, rows in splits.parts()
        )
        self.shape = self.n_classes, self.train.x.shape[1]

    @abstractmethod
    def weights(self, alpha: Tensor) -> Tensor:
        """w(α), (n,), or (1,) where all are the same."""

    @abstractmethod
    def penalty(self, alpha: Tensor) -> Tensor:
        """c(α), of a shape that broadcasts to (K, p)."""

    @property
    def facts(self) -> dict[str, Any]:
        return {
            "n_train": len(self.train.labels),
            "n_outer": len(self.outer_set.labels),
            "n_test": len(self.test.labels),
        }

    def zero(self) -> Tensor:
        """Θ = 0, as the θ that a solver begins with."""
        n_classes, n_features = self.shape
        return torch.zeros(n_classes * n_features, dtype=torch.float64, device=self.device)

    def matrix(self, theta: Tensor) -> Tensor:
        """θ as Θ, (..., K p) → (..., K, p)."""
        return theta.reshape(*theta.shape[:-1], *self.shape)

    def as_given(self, alpha: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """α and Θ (K, p)."""
        return alpha, self.matrix(theta)

    def inner(self, alpha: Tensor, start: Point | None = None) -> "MultinomialObjective":
        known = (start.z, start.scores) if isinstance(start, MultinomialPoint) else None
        return MultinomialObjective(self, self.weights(alpha), self.penalty(alpha), known)

    def inner_gradient(self, alpha: Tensor, theta: Tensor) -> Tensor:
        matrix = self.matrix(theta)
        slopes = self.weights(alpha) * self.train.slopes(self.train.x.matvec(matrix))
        return (self.train.x.rmatvec(slopes) + self.penalty(alpha) * matrix).flatten()

    def outer(self, alpha: Tensor, theta: Tensor) -> "MultinomialOuterValue":
        return MultinomialOuterValue(self.outer_set, self.outer_set.x.matvec(self.matrix(theta)))

    def hessian(self, alpha: Tensor, point: Point) -> LinearOperator:
        """V ↦ W((diag(π) − ππᵀ) V Xᵀ) X + c ∘ V, with the scores of the point."""
        scores = point.scores if isinstance(point, MultinomialPoint) else self.scores(point.z)
        pi, weights, penalty = scores.softmax(0), self.weights(alpha), self.penalty(alpha)
        x = self.train.x

        def product(v: Tensor) -> Tensor:
            matrix = self.matrix(v)
            weighed = pi * x.matvec(matrix)
            curved = weights * (weighed - pi * weighed.sum(-2, keepdim=True))
            return (x.rmatvec(curved) + penalty * matrix).flatten(-2)

        return LinearOperator(product, symmetric=True)

    def scores(self, theta: Tensor) -> Tensor:
        """Of the training rows, (K p,) → (K, n)."""
        return self.train.x.matvec(self.matrix(theta))

    def evaluate(self, alpha: Tensor, theta: Tensor) -> dict[str, float]:
        """The mean losses of the outer and the held-out set, and the accuracy on the latter."""
        matrix = self.matrix(theta)
        outer, test = self.outer_set.x.matvec(matrix), self.test.x.matvec(matrix)
        return {
            "outer_loss": float(self.outer_set.losses(outer).mean()),
            "test_loss": float(self.test.losses(test).mean()),
            "accuracy": self.test.accuracy(test),
        }


class MultinomialOuterValue:
    """F(Θ) and its gradient, from the scores of the outer rows (K, n)."""

    direct = None

    def __init__(self, rows: ClassedRows, scores: Tensor) -> None:
        self._rows, self._scores = rows, scores

    @cached_property
    def value(self) -> float:
        return float(self._rows.losses(self._scores).sum())

    @cached_property
    def gradient(self) -> Tensor:
        return self._rows.x.rmatvec(self._rows.slopes(self._scores)).flatten()


class MultinomialObjective:
    """θ ↦ G(α, Θ) at fixed α; `n_evals` counts gradients, each one product with X and one with Xᵀ.

    `known` is a θ with its scores, which do not depend on α.
    """

    inner_product = PLAIN

    def __init__(
        self,
        model: MultinomialModel,
        weights: Tensor,
        penalty: Tensor,
        known: tuple[Tensor, Tensor] | None,
    ) -> None:
        self.model, self.train = model, model.train
        self.weights, self.penalty = weights, penalty
        self.n_evals = 0
        self._known = known

    def __call__(self, theta: Tensor) -> "MultinomialPoint":
        if self._known is not None and theta is self._known[0]:
            return MultinomialPoint(self, *self._known)
        return MultinomialPoint(self, theta, self.model.scores(theta))

    def load(self, saved: dict[str, Any]) -> "MultinomialPoint":
        return MultinomialPoint(self, **saved)


class MultinomialPoint:
    """θ, its scores (K, n), and ∇_θG there once it is asked for.

    The scores are kept: the value, the gradient, every ray from here and the Hessian need them.
    """

    def __init__(
        self,
        objective: MultinomialObjective,
        z: Tensor,
        scores: Tensor,
        gradient: Tensor | None = None,
    ) -> None:
        self.objective = objective
        self.z, self.scores = z, scores
        self._gradient = gradient

    @cached_property
    def value(self) -> float:
        objective, matrix = self.objective, self.objective.model.matrix(self.z)
        data = (objective.weights * objective.train.losses(self.scores)).sum()
        return float(data + 0.5 * (objective.penalty * matrix * matrix).sum())

    @property
    def gradient(self) -> Tensor:
        if self._gradient is None:
            objective, matrix = self.objective, self.objective.model.matrix(self.z)
            slopes = objective.weights * objective.train.slopes(self.scores)
            gradient = objective.train.x.rmatvec(slopes) + objective.penalty * matrix
            self._gradient = gradient.flatten()
            objective.n_evals += 1
        return self._gradient

    @property
    def gradient_norm(self) -> float:
        return float(self.gradient.norm())

    def ray(self, d: Tensor) -> "MultinomialRay":
        return MultinomialRay(self, d)

    def state_dict(self) -> dict[str, Any]:
        return {"z": self.z, "scores": self.scores, "gradient": self._gradient}


class MultinomialRay:
    """θ + t d, t ≥ 0: after the one product with X, each value and slope costs O(K n)."""

    def __init__(self, start: MultinomialPoint, d: Tensor) -> None:
        self.start, self.d = start, d
        objective = start.objective
        self.direction = objective.model.scores(d)
        # ½ Σ_kj c_kj (Θ_kj + t D_kj)² = offset + t slope + ½ t² curvature
        theta, matrix = objective.model.matrix(start.z), objective.model.matrix(d)
        self.offset = 0.5 * float((objective.penalty * theta * theta).sum())
        self.slope = float((objective.penalty * theta * matrix).sum())
        self.curvature = float((objective.penalty * matrix * matrix).sum())

    def __call__(self, t: float) -> tuple[float, float]:
        objective = self.start.objective
        weights, train = objective.weights, objective.train
        scores = self.start.scores + t * self.direction
        penalty = self.offset + t * self.slope + 0.5 * t * t * self.curvature
        value = float((weights * train.losses(scores)).sum()) + penalty
        along = float((weights * (train.slopes(scores) * self.direction).sum(0)).sum())
        return value, along + self.slope + t * self.curvature

    def end(self, t: float) -> MultinomialPoint:
        start = self.start
        scores = start.scores + t * self.direction
        return MultinomialPoint(start.objective, start.z + t * self.d, scores)
