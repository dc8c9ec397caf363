"""Regularised linear models as bi-level problems, with a hyperparameter per group of features.

    G(α, θ) = Σ_train ℓ(x_iᵀθ, y_i) + ½ Σ_j e^{α_g(j)} θ_j²,    F(θ) = Σ_outer ℓ(x_iᵀθ, y_i)

Here α is (k,), g(j) is the group of feature j, and x_iᵀθ is the margin of row i. These are sums and
not means, as in Ramzi et al. 2022, section 4. All products with the data are made by hand: this is
the fast path of `BilevelProblem`.
"""

from functools import cached_property
from typing import Literal, NamedTuple

import torch
from pydantic import PositiveFloat
from torch import Tensor

from shine_exp.bilevel.problem import BilevelProblem, Bound, Moved
from shine_exp.bilevel.problems.design_matrix import DesignMatrix, column_scales, scaled_columns
from shine_exp.bilevel.problems.linear.coordinates import (
    Coordinates,
    DualCoordinates,
    PrimalCoordinates,
)
from shine_exp.bilevel.problems.linear.feature_groups import Grouping, feature_groups
from shine_exp.bilevel.problems.linear.objective import (
    LinearObjective,
    LinearOuterValue,
    LinearPoint,
    Loss,
)
from shine_exp.data.io.files import InputFile
from shine_exp.data.splits import Splits
from shine_exp.errors import UserError
from shine_exp.randomness import generator
from shine_exp.solvers.objective import Point
from shine_exp.types import LinearOperator, SecantEstimate

Writing = Literal["auto", "primal", "dual"]
# A step takes 4 passes over m vectors of p numbers in primal coordinates, and 6 over m of n in dual
# ones, which thus pay from p = 1.5 n on. At 2 n, they do so on any processor.
WIDE = 2


class SquaredNorm(NamedTuple):
    """‖X‖₂², and the number of products with XXᵀ that it took to find it."""

    value: float
    n_products: int


class LinearModel(BilevelProblem):
    """The bi-level problem of a loss ℓ on three sets of rows, with α in [−bound, bound]ᵏ.

    `coordinates` says how θ is written: "primal" or "dual" (`linear.coordinates`). Dual ones need
    one α for all features. "auto" takes them where they are possible and the features are more than
    twice as many as the rows. `euclidean` is the same problem in primal ones.

    Where the largest and the smallest column of X differ by more than a factor of 10⁶, the problem
    is solved in φ with θ_j = s_j φ_j: the columns s_j x_j have a largest entry near 1, and the
    penalty of φ_j is ½ e^α s_j² φ_j². This is the same problem, in numbers that a minimiser can
    handle. `scales` holds s (p,), or None where it is not needed. The s_j are powers of 2, so that
    neither the scaled columns nor θ from φ are rounded.

    Raises `UserError` where dual coordinates are asked for and impossible.
    """

    columns = ("outer_loss", "test_loss", "accuracy")

    def __init__(
        self,
        loss: Loss,
        splits: Splits,
        groups: int | InputFile = 1,
        device: str = "cpu",
        bound: PositiveFloat = 12.0,
        seed: int = 0,
        coordinates: Writing = "auto",
        grouping: Grouping = "contiguous",
    ) -> None:
        self._given = loss, splits, groups, device, bound, seed
        self._forced = coordinates
        self.loss = loss
        self.lower, self.upper = -bound, bound
        x_train, _ = splits.train
        self.n_features = x_train.shape[1]
        self.groups = feature_groups(groups, x_train, grouping).to(device)
        self.n_hyperparameters = int(self.groups.max()) + 1
        scales = column_scales(x_train)
        self.scales = None if scales is None else torch.from_numpy(scales).to(device)
        self.device = device
        train, outer, test = (
            x if scales is None else scaled_columns(x, scales)
            for x, _ in (splits.train, splits.outer, splits.test)
        )
        self._train_y, self._outer_y, self._test_y = (
            torch.as_tensor(y, dtype=torch.float64, device=device)
            for _, y in (splits.train, splits.outer, splits.test)
        )
        self._test = DesignMatrix(test, device)
        self.writing = self._writing(coordinates)
        make = DualCoordinates if self.writing == "dual" else PrimalCoordinates
        self.coordinates: Coordinates = make(train, outer, self._random_start(seed))

    @property
    def facts(self) -> dict[str, int | str]:
        return {
            "n_train": len(self._train_y),
            "n_outer": len(self._outer_y),
            "n_test": len(self._test_y),
            "coordinates": self.writing,
        }

    @cached_property
    def euclidean(self) -> "LinearModel":
        if self.writing == "primal":
            return self
        if self._forced == "dual":
            raise UserError(
                "problem.coordinates=dual: this solver, method or outer loop knows the plain inner "
                "product only; take problem.coordinates=auto"
            )
        return LinearModel(*self._given, coordinates="primal")

    def start(self) -> tuple[Tensor, Tensor]:
        """α₀ = 0 and θ₀ ~ N(0, I) (Ramzi et al. 2022, appendix C)."""
        alpha = torch.zeros(self.n_hyperparameters, dtype=torch.float64, device=self.device)
        return alpha, self.coordinates.start()

    def as_given(self, alpha: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """α and θ_j = s_j φ_j (p,), for the features as they were."""
        weights = self.coordinates.weights(theta)
        return alpha, weights if self.scales is None else weights * self.scales

    def penalty(self, alpha: Tensor) -> Tensor:
        """e^{α_g(j)} s_j² for every feature j, (k,) → (p,); (1,) for one group and no scales."""
        penalty = alpha.exp() if self.n_hyperparameters == 1 else alpha.exp()[self.groups]
        return penalty if self.scales is None else penalty * self.scales**2

    def inner(self, alpha: Tensor, start: Point | None = None) -> LinearObjective:
        penalty = self.penalty(alpha)
        objective = LinearObjective(self.coordinates, self.loss, self._train_y, penalty)
        if isinstance(start, LinearPoint):
            objective.know(start)
        return objective

    def inner_gradient(self, alpha: Tensor, theta: Tensor) -> Tensor:
        slopes = self.loss.first(self.coordinates.train_margins(theta), self._train_y)
        return self.coordinates.train_sum(slopes, self.penalty(alpha), theta)

    def outer(self, alpha: Tensor, theta: Tensor) -> LinearOuterValue:
        margins = self.coordinates.outer_margins(theta)
        return LinearOuterValue(self.coordinates, self.loss, margins, self._outer_y)

    def hessian(self, alpha: Tensor, point: Point) -> LinearOperator:
        """v ↦ (Xᵀ diag(ℓ″) X + diag(penalty)) v, (..., d) → (..., d)."""
        coordinates, penalty = self.coordinates, self.penalty(alpha)
        # The solver's last point keeps its margins, which saves a pass over the data here.
        if isinstance(point, LinearPoint):
            margins = point.margins
        else:
            margins = coordinates.train_margins(point.z)
        curvature = self.loss.second(margins, self._train_y)

        def product(v: Tensor) -> Tensor:
            return coordinates.train_sum(curvature * coordinates.train_margins(v), penalty, v)

        return LinearOperator(product, symmetric=True, inner_product=coordinates.inner_product)

    def cross(self, alpha: Tensor, theta: Tensor, u: Tensor) -> Tensor:
        """e^{α_g(j)} s_j² θ_j u_j summed over the features j of each group, (..., d) → (..., k)."""
        penalised = self.penalty(alpha) * theta
        if self.n_hyperparameters == 1:
            return self.coordinates.inner_product(penalised, u)[..., None]
        contributions = penalised * u
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
        outer = self.coordinates.outer_margins(theta)
        test = self._test.matvec(self.coordinates.weights(theta))
        return {
            "outer_loss": float(self.loss.value(outer, self._outer_y).mean()),
            "test_loss": float(self.loss.value(test, self._test_y).mean()),
            "accuracy": float((torch.sign(test) == self._test_y).double().mean()),
        }

    @cached_property
    def train_norm(self) -> SquaredNorm:
        """‖X_train‖₂², from below, by the power method until it grows by less than 0.1 %."""
        z = torch.ones_like(self._train_y)
        _, zero = self.start()
        none = torch.zeros(1, dtype=torch.float64, device=self.device)
        square, last = 0.0, -1.0
        n_products = 0
        while square - last > 1e-3 * square:
            z = self.coordinates.train_sum(z / z.norm(), none, zero)
            z = self.coordinates.train_margins(z)
            square, last = float(z.norm()), square
            n_products += 1
        return SquaredNorm(square, n_products)

    def _writing(self, coordinates: Writing) -> Literal["primal", "dual"]:
        possible = self.n_hyperparameters == 1 and self.scales is None
        if coordinates == "dual" and not possible:
            reason = "the penalty differs from feature to feature"
            raise UserError(f"problem.coordinates=dual: {reason}; take primal, or auto")
        wide = self.n_features > WIDE * (len(self._train_y) + len(self._outer_y))
        if coordinates == "dual" or (coordinates == "auto" and possible and wide):
            return "dual"
        return "primal"

    def in_solved_variables(self, theta: Tensor) -> Tensor:
        """The φ (p,) that belongs to θ (p,); θ itself where nothing is scaled."""
        return theta if self.scales is None else theta / self.scales

    def _random_start(self, seed: int) -> Tensor:
        theta = torch.randn(self.n_features, dtype=torch.float64, generator=generator(seed))
        return self.in_solved_variables(theta.to(self.device))
