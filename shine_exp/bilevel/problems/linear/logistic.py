"""ℓ²-regularised logistic regression (Pedregosa 2016, section 5; Ramzi et al. 2022, section 4)."""

import torch
from pydantic import PositiveFloat
from torch import Tensor
from torch.nn.functional import logsigmoid

from shine_exp.bilevel.problems.linear.feature_groups import Grouping
from shine_exp.bilevel.problems.linear.model import LinearModel, Writing
from shine_exp.data.dataset import Dataset
from shine_exp.data.io.files import InputFile
from shine_exp.data.splits import split


class LogisticLoss:
    """ℓ(m, y) = log(1 + exp(−y m))."""

    largest_curvature = 0.25

    def value(self, m: Tensor, y: Tensor) -> Tensor:
        return -logsigmoid(y * m)

    def first(self, m: Tensor, y: Tensor) -> Tensor:
        return -y * torch.sigmoid(-y * m)

    def second(self, m: Tensor, y: Tensor) -> Tensor:
        return torch.sigmoid(m) * torch.sigmoid(-m)


def logistic_regression(
    data: Dataset,
    seed: int,
    device: str,
    groups: int | InputFile,
    grouping: Grouping,
    bound: PositiveFloat,
    coordinates: Writing,
) -> LinearModel:
    """ℓ²-regularised logistic regression on the split of `data` that belongs to `seed`."""
    splits = split(data, seed)
    return LinearModel(LogisticLoss(), splits, groups, device, bound, seed, coordinates, grouping)
