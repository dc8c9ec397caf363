"""How the learning rate η_t of an optimiser changes over the T steps of a training."""

import math
from dataclasses import dataclass
from typing import Annotated, Protocol

import torch
from annotated_types import Interval
from pydantic import NonNegativeFloat, PositiveFloat
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler


class Schedule(Protocol):
    """Makes PyTorch's schedule of an optimiser, which is moved once after each of `n_steps`."""

    def __call__(self, optimizer: torch.optim.Optimizer, n_steps: int) -> LRScheduler: ...


@dataclass(frozen=True)
class Cosine:
    """η_t = η_T + (η₀ − η_T) (1 + cos(π t/T)) / 2 (Loshchilov & Hutter 2017, equation 5).

    η₀ is the optimiser's own, η_T is `final_learning_rate`.
    """

    final_learning_rate: NonNegativeFloat

    def __call__(self, optimizer: torch.optim.Optimizer, n_steps: int) -> CosineAnnealingLR:
        return CosineAnnealingLR(optimizer, n_steps, eta_min=self.final_learning_rate)


@dataclass(frozen=True)
class OneCycle:
    """From η₀ up to the optimiser's own rate and down to η_T (Smith & Topin 2019).

    Both ways are half a period of a cosine. The way up takes the share `rise` of the T steps. η₀
    is `first_learning_rate`, η_T is `final_learning_rate`. Momentum stays as it is.
    """

    first_learning_rate: PositiveFloat
    final_learning_rate: NonNegativeFloat
    rise: Annotated[float, Interval(gt=0, lt=1)]

    def __call__(self, optimizer: torch.optim.Optimizer, n_steps: int) -> LambdaLR:
        (largest,) = {float(group["lr"]) for group in optimizer.param_groups}
        top = self.rise * n_steps

        def factor(step: int) -> float:
            if step < top:
                rate = _half_cosine(self.first_learning_rate, largest, step / top)
            else:
                rate = _half_cosine(
                    largest, self.final_learning_rate, (step - top) / (n_steps - top)
                )
            return rate / largest

        # Not PyTorch's OneCycleLR, which divides by 0 where the way up takes one step.
        return LambdaLR(optimizer, factor)


def _half_cosine(first: float, last: float, share: float) -> float:
    """From the first value to the last, as the share of the way goes from 0 to 1."""
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2
