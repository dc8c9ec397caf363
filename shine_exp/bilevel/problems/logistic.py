"""ℓ²-regularised logistic regression (Pedregosa 2016, section 5; Ramzi et al. 2022, section 4.1)."""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from shine_exp.bilevel.problems.linear_model import LinearModel
from shine_exp.data.io.files import InputFile
from shine_exp.data.splits import Splits


class LogisticLoss:
    """ℓ(m, y) = log(1 + exp(−y m))."""

    def value(self, m: Tensor, y: Tensor) -> Tensor:
        return -logsigmoid(y * m)

    def first(self, m: Tensor, y: Tensor) -> Tensor:
        return -y * torch.sigmoid(-y * m)

    def second(self, m: Tensor, y: Tensor) -> Tensor:
        return torch.sigmoid(m) * torch.sigmoid(-m)


class LogisticRegression(LinearModel):
    """min_α F(θ*(α)) for the logistic loss."""

    def __init__(self, splits: Splits, groups: int | InputFile, device: str) -> None:
        super().__init__(LogisticLoss(), splits, groups, device)
