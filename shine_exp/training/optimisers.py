"""What moves a network's weights w along the gradients of its batches."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Protocol

import torch
from annotated_types import Interval
from pydantic import NonNegativeFloat, PositiveFloat
from torch import nn

Share = Annotated[float, Interval(ge=0, lt=1)]


class Optimiser(Protocol):
    """Makes PyTorch's optimiser of some weights; its learning rate is the largest of a schedule."""

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer: ...


@dataclass(frozen=True)
class Adam:
    """w ← w − η m̂ / (√v̂ + 10⁻⁸) (Kingma & Ba 2015, algorithm 1).

    m̂ and v̂ are running means of the gradient and of its square, freed from their bias towards 0:
    a step keeps `beta1` and `beta2` of them. η is `learning_rate`, as the schedule changes it.
    """

    learning_rate: PositiveFloat
    beta1: Share
    beta2: Share

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Adam:
        betas = (self.beta1, self.beta2)
        return torch.optim.Adam(parameters, lr=self.learning_rate, betas=betas)


@dataclass(frozen=True)
class SGD:
    """m ← μ m + ∇L(w) + λ w,  w ← w − η m (Sutskever et al. 2013, with η outside of m).

    μ is `momentum` and λ is `weight_decay`. η is `learning_rate`, as the schedule changes it.
    """

    learning_rate: PositiveFloat
    momentum: Share
    weight_decay: NonNegativeFloat

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.SGD:
        return torch.optim.SGD(
            parameters,
            lr=self.learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )
