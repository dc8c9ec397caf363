"""Non-linear least squares, the non-convex inner problem (Ramzi et al. 2022, appendix E)."""

import torch
from pydantic import PositiveFloat
from torch import Tensor

from shine_exp.bilevel.problems.linear.feature_groups import Grouping
from shine_exp.bilevel.problems.linear.model import LinearModel, Writing
from shine_exp.data.dataset import Dataset
from shine_exp.data.io.files import InputFile
from shine_exp.data.splits import split


class SquaredSigmoidLoss:
    """ℓ(m, y) = ½ (b − σ(m))², b = (y + 1)/2 ∈ {0, 1}."""

    largest_curvature = 0.08  # sup |ℓ″| is about 0.0770

    def value(self, m: Tensor, y: Tensor) -> Tensor:
        return 0.5 * ((y + 1) / 2 - torch.sigmoid(m)) ** 2

    def first(self, m: Tensor, y: Tensor) -> Tensor:
        p = torch.sigmoid(m)
        return (p - (y + 1) / 2) * p * (1 - p)

    def second(self, m: Tensor, y: Tensor) -> Tensor:
        p = torch.sigmoid(m)
        return p * (1 - p) * (p * (1 - p) + (p - (y + 1) / 2) * (1 - 2 * p))


def nonlinear_least_squares(
    data: Dataset,
    seed: int,
    device: str,
    groups: int | InputFile,
    grouping: Grouping,
    bound: PositiveFloat,
    coordinates: Writing,
) -> LinearModel:
    """Non-linear least squares on the split of `data` that belongs to `seed`."""
    splits = split(data, seed)
    return LinearModel(
        SquaredSigmoidLoss(), splits, groups, device, bound, seed, coordinates, grouping
    )
