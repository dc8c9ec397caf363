"""Data cleaning: a weight for every training row, of which some have wrong labels.

    G(α, Θ) = Σ_i σ(α_i) ℓ(Θx_i, y_i) + ½ c ‖Θ‖²,    F(Θ) = Σ_outer ℓ(Θx_i, y_i)

The outer rows have right labels, and say which training rows do (Franceschi et al. 2017, section
5.1, whose weights lie in a box, and not in σ).
"""

from dataclasses import replace
from functools import cached_property
from typing import Annotated, Any, Literal

import torch
from annotated_types import Interval
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from shine_exp.bilevel.inner_solution import solve_inner
from shine_exp.bilevel.problem import Moved
from shine_exp.bilevel.problems.multinomial.model import MultinomialModel
from shine_exp.data.dataset import Dataset
from shine_exp.data.multiclass import MulticlassDataset, MulticlassSplits
from shine_exp.data.stratified import stratified_split
from shine_exp.randomness import generator
from shine_exp.solvers.lbfgs import LBFGS
from shine_exp.types import SecantEstimate

BASELINE_TOL = 1e-6  # of ‖∇_θG‖, relative to that at Θ = 0


class Cleaning(MultinomialModel):
    """The bi-level problem whose α (n,) are the logits of the weights of the training rows.

    `wrong` (n,), bool, says which training labels are wrong. Nothing but the columns of the trace
    and the baselines reads it. α begins at 0, where all weights are ½. `pairs` says what becomes
    of the solver's secant pairs when α moves: they stay as they were measured ("keep"), or their
    y are measured again, by a product each ("measure").
    """

    columns = ("outer_loss", "test_loss", "accuracy", "f1", "weight_on_wrong")

    def __init__(
        self,
        splits: MulticlassSplits,
        wrong: Tensor,
        penalty: float,
        pairs: Literal["keep", "measure"],
        device: str,
    ) -> None:
        super().__init__(splits, device)
        self.wrong = wrong.to(device)
        self.pairs = pairs
        self._penalty = torch.tensor([penalty], dtype=torch.float64, device=device)

    @cached_property
    def baselines(self) -> dict[str, dict[str, float]]:
        """The columns of the trace for training on the right rows only, and on all rows."""
        right = torch.where(self.wrong, -torch.inf, torch.inf).to(torch.float64)
        return {"right rows only": self._trained(right), "all rows": self._trained(right.abs())}

    def _trained(self, alpha: Tensor) -> dict[str, float]:
        """The columns at θ*(α)."""
        start = self.inner(alpha)(self.zero())
        tol = BASELINE_TOL * float(start.gradient.norm())
        return self.evaluate(alpha, solve_inner(self, LBFGS(), alpha, start, tol).theta)

    @property
    def facts(self) -> dict[str, Any]:
        return super().facts | {"n_wrong": int(self.wrong.sum()), "baselines": self.baselines}

    def start(self) -> tuple[Tensor, Tensor]:
        return torch.zeros(len(self.wrong), dtype=torch.float64, device=self.device), self.zero()

    def weights(self, alpha: Tensor) -> Tensor:
        return alpha.sigmoid()

    def penalty(self, alpha: Tensor) -> Tensor:
        return self._penalty

    def cross(self, alpha: Tensor, theta: Tensor, u: Tensor) -> Tensor:
        """σ′(α_i) ∂ℓ/∂s_iᵀ U x_i, for every row i: (K p,) → (n,)."""
        slopes = self.train.slopes(self.scores(theta))
        weight = alpha.sigmoid()
        return weight * (1 - weight) * (slopes * self.scores(u)).sum(0)

    def moved(self, estimate: SecantEstimate, old: Tensor, new: Tensor, theta: Tensor) -> Moved:
        if self.pairs == "keep":
            return Moved(estimate.copy())
        hessian = self.hessian(new, self.inner(new)(theta))
        steps, _ = estimate.pairs()
        return Moved(estimate.remeasured(hessian), len(steps))

    def evaluate(self, alpha: Tensor, theta: Tensor) -> dict[str, float]:
        """Beside the losses: how well σ(α_i) < ½ finds wrong labels, and the weight that these
        still have, as a share of all weight.
        """
        found, weights = alpha < 0, alpha.sigmoid()
        right_finds = float((found & self.wrong).sum())
        named = float(found.sum() + self.wrong.sum())
        return super().evaluate(alpha, theta) | {
            "f1": 2 * right_finds / named if named else 1.0,
            "weight_on_wrong": float(weights[self.wrong].sum() / weights.sum()),
        }


def cleaning(
    data: MulticlassDataset | Dataset,
    seed: int,
    device: str,
    n_train: PositiveInt,
    n_outer: PositiveInt,
    wrong: Annotated[float, Interval(ge=0, le=0.9)],
    penalty: PositiveFloat,
    pairs: Literal["keep", "measure"],
) -> Cleaning:
    """Data cleaning on the stratified split of `data` that belongs to `seed`.

    A share `wrong` of the training rows, drawn by the seed, gets another class, drawn uniformly.
    """
    classes = MulticlassDataset.of(data) if isinstance(data, Dataset) else data
    splits = stratified_split(classes, n_train, n_outer, seed)
    x, labels = splits.train
    drawn = generator(seed)
    mistaken = torch.zeros(n_train, dtype=torch.bool)
    mistaken[torch.randperm(n_train, generator=drawn)[: round(wrong * n_train)]] = True
    others = torch.randint(1, splits.n_classes, (n_train,), generator=drawn)
    given = (torch.from_numpy(labels) + others * mistaken) % splits.n_classes
    return Cleaning(replace(splits, train=(x, given.numpy())), mistaken, penalty, pairs, device)
