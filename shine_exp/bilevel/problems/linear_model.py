"""Regularised linear models as bi-level problems, with a hyperparameter per group of features.

    G(α, θ) = Σ_train ℓ(x_iᵀθ, y_i) + ½ Σ_j e^{α_g(j)} θ_j²,    F(θ) = Σ_outer ℓ(x_iᵀθ, y_i)

Here α is (k,), g(j) is the group of feature j, and x_iᵀθ is the margin of row i. These are sums and
not means, as in Ramzi et al. 2022, section 4. All products with the data are made by hand: this is
the fast path of `BilevelProblem`.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import torch
from pydantic import PositiveFloat
from torch import Tensor

from shine_exp.bilevel.problem import BilevelProblem, Bound, Moved
from shine_exp.bilevel.problems.design_matrix import DesignMatrix, column_scales, scaled_columns
from shine_exp.bilevel.problems.feature_groups import feature_groups
from shine_exp.data.io.files import InputFile
from shine_exp.data.splits import Splits
from shine_exp.randomness import generator
from shine_exp.solvers.objective import Point
from shine_exp.types import LinearOperator, SecantEstimate


class Loss(Protocol):
    """ℓ(m, y) and its first two derivatives in the margin m, elementwise, y ∈ {−1, +1}."""

    largest_curvature: float  # sup |ℓ″|

    def value(self, m: Tensor, y: Tensor) -> Tensor: ...
    def first(self, m: Tensor, y: Tensor) -> Tensor: ...
    def second(self, m: Tensor, y: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Part:
    """One of the three sets of rows: X (n, p) and the labels y (n,)."""

    x: DesignMatrix
    y: Tensor


class SquaredNorm(NamedTuple):
    """‖X‖₂², and the number of products with XᵀX that it took to find it."""

    value: float
    n_products: int


class LinearModel(BilevelProblem):
    """The bi-level problem of a loss ℓ on three sets of rows, with α in [−bound, bound]ᵏ.

    Where the largest and the smallest column of X differ by more than a factor of 10⁶, the problem
    is solved in φ with θ_j = s_j φ_j: the columns s_j x_j have a largest entry near 1, and the
    penalty of φ_j is ½ e^α s_j² φ_j². This is the same problem, in numbers that a minimiser can
    handle. `scales` holds s (p,), or None where it is not needed. The s_j are powers of 2, so that
    neither the scaled columns nor θ from φ are rounded.
    """

    columns = ("outer_loss", "test_loss", "accuracy")

    def __init__(
        self,
        loss: Loss,
        splits: Splits,
        groups: int | InputFile = 1,
        device: str = "cpu",
        bound: PositiveFloat = 12.0,
    ) -> None:
        self.loss = loss
        self.lower, self.upper = -bound, bound
        x_train, _ = splits.train
        scales = column_scales(x_train)
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

    @property
    def sizes(self) -> dict[str, int]:
        return {
            "n_train": len(self.train.y),
            "n_outer": len(self.outer_set.y),
            "n_test": len(self.test.y),
        }

    def start(self, seed: int) -> tuple[Tensor, Tensor]:
        """α₀ = 0 and θ₀ ~ N(0, I) (Ramzi et al. 2022, appendix C)."""
        theta = torch.randn(self.n_features, dtype=torch.float64, generator=generator(seed))
        alpha = torch.zeros(self.n_hyperparameters, dtype=torch.float64, device=self.device)
        return alpha, self.in_solved_variables(theta.to(self.device))

    def in_solved_variables(self, theta: Tensor) -> Tensor:
        """The φ (p,) that belongs to θ (p,); θ itself where nothing is scaled."""
        return theta if self.scales is None else theta / self.scales

    def as_given(self, alpha: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """α and θ_j = s_j φ_j, for the features as they were."""
        return alpha, theta if self.scales is None else theta * self.scales

    def penalty(self, alpha: Tensor) -> Tensor:
        """e^{α_g(j)} s_j² for every feature j, (k,) → (p,); (1,) for one group and no scales."""
        penalty = alpha.exp() if self.n_hyperparameters == 1 else alpha.exp()[self.groups]
        return penalty if self.scales is None else penalty * self.scales**2

    def inner(self, alpha: Tensor, start: Point | None = None) -> "LinearObjective":
        objective = LinearObjective(self.train, self.loss, self.penalty(alpha))
        if isinstance(start, LinearPoint):
            objective.know(start)
        return objective

    def inner_gradient(self, alpha: Tensor, theta: Tensor) -> Tensor:
        x, y = self.train.x, self.train.y
        return x.rmatvec(self.loss.first(x.matvec(theta), y)) + self.penalty(alpha) * theta

    def outer(self, alpha: Tensor, theta: Tensor) -> "LinearOuterValue":
        return LinearOuterValue(self.outer_set, self.loss, self.outer_set.x.matvec(theta))

    def hessian(self, alpha: Tensor, point: Point) -> LinearOperator:
        """v ↦ (Xᵀ diag(ℓ″) X + diag(penalty)) v, (..., p) → (..., p)."""
        x, penalty = self.train.x, self.penalty(alpha)
        # The solver's last point keeps its margins, which saves a pass over the data here.
        margins = point.margins if isinstance(point, LinearPoint) else x.matvec(point.z)
        curvature = self.loss.second(margins, self.train.y)
        return LinearOperator(
            lambda v: x.rmatvec(curvature * x.matvec(v)) + penalty * v, symmetric=True
        )

    def cross(self, alpha: Tensor, theta: Tensor, u: Tensor) -> Tensor:
        """e^{α_g(j)} s_j² θ_j u_j summed over the features j of each group, (..., p) → (..., k)."""
        contributions = self.penalty(alpha) * theta * u
        if self.n_hyperparameters == 1:
            return contributions.sum(-1, keepdim=True)
        sums = contributions.new_zeros(*u.shape[:-1], self.n_hyperparameters)
        return sums.index_add_(-1, self.groups, contributions)

    def moved(self, estimate: SecantEstimate, old: Tensor, new: Tensor, theta: Tensor) -> Moved:
        """Shift each y of the secant pairs (s, y) to y + (penalty(new) − penalty(old)) ∘ s.

        This is exact: of ∇²_θθG only the penalty depends on α.
        """
        if torch.equal(old, new):
            return Moved(estimate.copy())
        return Moved(estimate.shifted(self.penalty(new) - self.penalty(old)))

    def smoothness(self, alpha: Tensor, point: Point) -> Bound:
        """sup |ℓ″| ‖X‖₂² + the largest penalty, which holds at every θ."""
        norm = self.train_norm
        square = 1.01 * norm.value  # the power method comes from below, to about a thousandth
        value = self.loss.largest_curvature * square + float(self.penalty(alpha).max())
        return Bound(value, norm.n_products, once=True)

    def evaluate(self, alpha: Tensor, theta: Tensor) -> dict[str, float]:
        """The mean losses of the outer and the held-out set, and the accuracy on the latter."""
        outer, test = self.outer_set.x.matvec(theta), self.test.x.matvec(theta)
        return {
            "outer_loss": float(self.loss.value(outer, self.outer_set.y).mean()),
            "test_loss": float(self.loss.value(test, self.test.y).mean()),
            "accuracy": float((torch.sign(test) == self.test.y).double().mean()),
        }

    @cached_property
    def train_norm(self) -> SquaredNorm:
        """‖X_train‖₂², from below, by the power method until it grows by less than 0.1 %."""
        v = torch.ones(self.n_features, dtype=torch.float64, device=self.device)
        square, last = 0.0, -1.0
        n_products = 0
        while square - last > 1e-3 * square:
            v = self.train.x.rmatvec(self.train.x.matvec(v / v.norm()))
            square, last = float(v.norm()), square
            n_products += 1
        return SquaredNorm(square, n_products)


class LinearOuterValue:
    """F(θ) = Σ_outer ℓ(x_iᵀθ, y_i) and its gradient, from the margins of the outer rows (n,)."""

    direct = None

    def __init__(self, rows: Part, loss: Loss, margins: Tensor) -> None:
        self._rows = rows
        self._loss = loss
        self._margins = margins

    @cached_property
    def value(self) -> float:
        return float(self._loss.value(self._margins, self._rows.y).sum())

    @cached_property
    def gradient(self) -> Tensor:
        return self._rows.x.rmatvec(self._loss.first(self._margins, self._rows.y))


class LinearObjective:
    """θ ↦ G(α, θ) at fixed α; `n_evals` counts gradients, each one X w and one Xᵀ z."""

    def __init__(self, train: Part, loss: Loss, penalty: Tensor) -> None:
        self.train = train
        self.loss = loss
        self.penalty = penalty
        self.n_evals = 0
        # θ, Xθ and, if known, ∇_θG(α, θ), of the one point that `know` was told of.
        self._known: tuple[Tensor, Tensor, Tensor | None] | None = None

    def know(self, point: "LinearPoint") -> None:
        """Take over what a point of another α knows: a move of α then costs no pass over the data.

        The margins of the point do not depend on α, and its gradient only through the penalty.
        """
        gradient = point.known_gradient
        if gradient is not None:
            gradient = gradient + (self.penalty - point.objective.penalty) * point.z
        self._known = point.z, point.margins, gradient

    def __call__(self, theta: Tensor) -> "LinearPoint":
        if self._known is not None:
            known_theta, margins, gradient = self._known
            if theta is known_theta:
                return LinearPoint(self, theta, margins, gradient)
        return LinearPoint(self, theta, self.train.x.matvec(theta))

    def load(self, saved: dict[str, Any]) -> "LinearPoint":
        return LinearPoint(self, saved["z"], saved["margins"], saved["gradient"])


class LinearPoint:
    """θ, its margins Xθ (n,), and ∇_θG there once it is asked for.

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
    def value(self) -> float:
        data = self.objective.loss.value(self.margins, self.objective.train.y).sum()
        return float(data + 0.5 * (self.objective.penalty * self.z) @ self.z)

    @property
    def gradient(self) -> Tensor:
        if self.known_gradient is None:
            train = self.objective.train
            slopes = self.objective.loss.first(self.margins, train.y)
            self.known_gradient = train.x.rmatvec(slopes).addcmul_(self.objective.penalty, self.z)
            self.objective.n_evals += 1
        return self.known_gradient

    def ray(self, d: Tensor) -> "LinearRay":
        return LinearRay(self, d)

    def state_dict(self) -> dict[str, Any]:
        return {"z": self.z, "margins": self.margins, "gradient": self.gradient}


class LinearRay:
    """θ + t d, t ≥ 0: after the one product X d, each value and slope costs O(n)."""

    def __init__(self, start: LinearPoint, d: Tensor) -> None:
        self.start = start
        self.d = d
        self.direction = start.objective.train.x.matvec(d)
        # ½ Σ_j penalty_j (θ_j + t d_j)² = offset + t slope + ½ t² curvature
        penalised = start.objective.penalty * d
        self.offset = 0.5 * float((start.objective.penalty * start.z) @ start.z)
        self.slope = float(start.z @ penalised)
        self.curvature = float(d @ penalised)

    def __call__(self, t: float) -> tuple[float, float]:
        loss, y = self.start.objective.loss, self.start.objective.train.y
        margins = self.start.margins + t * self.direction
        penalty = self.offset + t * self.slope + 0.5 * t * t * self.curvature
        value = float(loss.value(margins, y).sum()) + penalty
        slope = float(loss.first(margins, y) @ self.direction) + self.slope + t * self.curvature
        return value, slope

    def end(self, t: float) -> LinearPoint:
        start = self.start
        margins = start.margins + t * self.direction
        return LinearPoint(start.objective, start.z + t * self.d, margins)
