"""Small networks of images as functions of their weights: (θ, images) ↦ scores."""

from dataclasses import dataclass
from typing import Protocol

import torch
from pydantic import PositiveInt
from torch import Tensor

from shine_exp.randomness import generator

Weights = dict[str, Tensor]


class Classifier(Protocol):
    """A network, smooth in its weights θ."""

    def start(self, shape: tuple[int, int, int], n_classes: int, seed: int) -> Weights:
        """θ₀ in float64, for images of (channels, height, width)."""
        ...

    def __call__(self, theta: Weights, images: Tensor) -> Tensor:
        """Images (n, channels, height, width) → scores (n, classes)."""
        ...


@dataclass(frozen=True)
class Linear:
    """W x + b, from W = 0 and b = 0: its inner problem is convex."""

    def start(self, shape: tuple[int, int, int], n_classes: int, seed: int) -> Weights:
        weight = torch.zeros(n_classes, _n_pixels(shape), dtype=torch.float64)
        return {"weight": weight, "bias": weight[:, 0].clone()}

    def __call__(self, theta: Weights, images: Tensor) -> Tensor:
        return torch.addmm(theta["bias"], images.flatten(1), theta["weight"].T)


@dataclass(frozen=True)
class TanhNetwork:
    """W₂ tanh(W₁ x + b₁) + b₂ with `width` hidden units; W from N(0, 1 / fan-in), b = 0."""

    width: PositiveInt

    def start(self, shape: tuple[int, int, int], n_classes: int, seed: int) -> Weights:
        drawn = generator(seed, 1)

        def layer(n_in: int, n_out: int) -> tuple[Tensor, Tensor]:
            weight = torch.randn(n_out, n_in, dtype=torch.float64, generator=drawn) / n_in**0.5
            return weight, torch.zeros(n_out, dtype=torch.float64)

        first, first_bias = layer(_n_pixels(shape), self.width)
        second, second_bias = layer(self.width, n_classes)
        return {
            "first": first,
            "first_bias": first_bias,
            "second": second,
            "second_bias": second_bias,
        }

    def __call__(self, theta: Weights, images: Tensor) -> Tensor:
        hidden = torch.addmm(theta["first_bias"], images.flatten(1), theta["first"].T).tanh()
        return torch.addmm(theta["second_bias"], hidden, theta["second"].T)


def _n_pixels(shape: tuple[int, int, int]) -> int:
    channels, height, width = shape
    return channels * height * width
