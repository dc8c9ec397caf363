"""Multinomial logistic regression with a penalty for every class, feature or group of features.

    G(α, Θ) = Σ_train ℓ(Θx_i, y_i) + ½ Σ_kj e^{α_g(k,j)} Θ_kj²,    F(Θ) = Σ_outer ℓ(Θx_i, y_i)

g(k, j) is the class k, the feature j, or the group of the feature j. The published code has the
penalty of a class, on MNIST (Ramzi et al. 2022).
"""

from typing import Annotated, Any, Literal

import torch
from annotated_types import Interval
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from shine_exp.bilevel.problem import Moved
from shine_exp.bilevel.problems.multinomial.model import MultinomialModel
from shine_exp.data.dataset import Dataset
from shine_exp.data.multiclass import MulticlassDataset, MulticlassSplits
from shine_exp.data.stratified import stratified_split
from shine_exp.errors import UserError
from shine_exp.types import SecantEstimate

Penalties = Literal["class", "feature"] | PositiveInt


class SoftmaxRegression(MultinomialModel):
    """The bi-level problem whose α (m,) are logarithms of penalties, in [−bound, bound]ᵐ.

    `penalties` is "class", "feature", or a number of contiguous groups of features, of which 1 is a
    single penalty.
    """

    def __init__(
        self, splits: MulticlassSplits, penalties: Penalties, bound: float, device: str
    ) -> None:
        super().__init__(splits, device)
        self.lower, self.upper = -bound, bound
        # g(k, j), of a shape that broadcasts to (K, p)
        self.groups = _groups(penalties, *self.shape).to(device)
        self.n_hyperparameters = int(self.groups.max()) + 1
        self._weights = torch.ones(1, dtype=torch.float64, device=device)

    @property
    def facts(self) -> dict[str, Any]:
        return super().facts | {"n_hyperparameters": self.n_hyperparameters}

    def start(self) -> tuple[Tensor, Tensor]:
        """α₀ = 0 and Θ₀ = 0."""
        zero = torch.zeros(self.n_hyperparameters, dtype=torch.float64, device=self.device)
        return zero, self.zero()

    def weights(self, alpha: Tensor) -> Tensor:
        return self._weights

    def penalty(self, alpha: Tensor) -> Tensor:
        return alpha.exp()[self.groups]

    def cross(self, alpha: Tensor, theta: Tensor, u: Tensor) -> Tensor:
        """Σ_{g(k,j) = m} e^{α_m} Θ_kj U_kj, (K p,) → (m,)."""
        products = (self.matrix(theta) * self.matrix(u)).sum_to_size(self.groups.shape)
        sums = torch.zeros_like(alpha).index_add(0, self.groups.flatten(), products.flatten())
        return alpha.exp() * sums

    def moved(self, estimate: SecantEstimate, old: Tensor, new: Tensor, theta: Tensor) -> Moved:
        """Every secant pair shifted by the change of the penalty, which is exact."""
        change = (self.penalty(new) - self.penalty(old)).expand(self.shape)
        return Moved(estimate.shifted(change.flatten()))


def _groups(penalties: Penalties, n_classes: int, n_features: int) -> Tensor:
    """The group of every class (K, 1), or of every feature (1, p), numbered from 0.

    Raises `UserError` for more groups than there are features.
    """
    if penalties == "class":
        return torch.arange(n_classes)[:, None]
    n_groups = n_features if penalties == "feature" else penalties
    if n_groups > n_features:
        raise UserError(
            f"problem.penalties={penalties}: the data have {n_features} features, so take 1 to "
            f"{n_features}, or feature"
        )
    return (torch.arange(n_features) * n_groups // n_features)[None, :]


def softmax_regression(
    data: MulticlassDataset | Dataset,
    seed: int,
    device: str,
    train: Annotated[float, Interval(gt=0, lt=1)],
    outer: Annotated[float, Interval(gt=0, lt=1)],
    penalties: Penalties,
    bound: PositiveFloat,
) -> SoftmaxRegression:
    """Softmax regression on the stratified split of `data` that belongs to `seed`.

    `train` and `outer` are shares of the rows; the rest is held out.
    """
    classes = MulticlassDataset.of(data) if isinstance(data, Dataset) else data
    n_train, n_outer = (round(share * len(classes.labels)) for share in (train, outer))
    splits = stratified_split(classes, n_train, n_outer, seed)
    return SoftmaxRegression(splits, penalties, bound, device)
