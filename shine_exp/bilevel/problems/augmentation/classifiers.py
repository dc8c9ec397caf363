"""Small networks of images as functions of their weights: (θ, images) ↦ scores."""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from pydantic import PositiveInt
from torch import Tensor
from torch.nn.functional import conv2d

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
        weight = torch.zeros(n_classes, math.prod(shape), dtype=torch.float64)
        return {"weight": weight, "bias": weight[:, 0].clone()}

    def __call__(self, theta: Weights, images: Tensor) -> Tensor:
        return torch.addmm(theta["bias"], images.flatten(1), theta["weight"].T)


@dataclass(frozen=True)
class TanhNetwork:
    """W₂ tanh(W₁ x + b₁) + b₂ with `width` hidden units."""

    width: PositiveInt

    def start(self, shape: tuple[int, int, int], n_classes: int, seed: int) -> Weights:
        return _drawn(
            {"first": (self.width, math.prod(shape)), "second": (n_classes, self.width)}, seed
        )

    def __call__(self, theta: Weights, images: Tensor) -> Tensor:
        hidden = torch.addmm(theta["first_bias"], images.flatten(1), theta["first"].T).tanh()
        return torch.addmm(theta["second_bias"], hidden, theta["second"].T)


@dataclass(frozen=True)
class ConvNet:
    """Two 3 × 3 convolutions of stride 2, tanh after each, the mean over pixels, a linear head.

    The first has `width` channels, the second twice as many.
    """

    width: PositiveInt

    def start(self, shape: tuple[int, int, int], n_classes: int, seed: int) -> Weights:
        channels, _, _ = shape
        kernels = {
            "first": (self.width, channels, 3, 3),
            "second": (2 * self.width, self.width, 3, 3),
            "head": (n_classes, 2 * self.width),
        }
        return _drawn(kernels, seed)

    def __call__(self, theta: Weights, images: Tensor) -> Tensor:
        x = images
        for name in ("first", "second"):
            x = conv2d(x, theta[name], theta[f"{name}_bias"], stride=2, padding=1).tanh()
        return torch.addmm(theta["head_bias"], x.mean(dim=(2, 3)), theta["head"].T)


def _drawn(shapes: dict[str, tuple[int, ...]], seed: int) -> Weights:
    """Weights (out, in, …) from N(0, 1 / fan-in), and a bias of zeros to each."""
    drawn = generator(seed, 1)
    theta = {}
    for name, shape in shapes.items():
        weight = torch.randn(shape, dtype=torch.float64, generator=drawn)
        theta[name] = weight / math.prod(shape[1:]) ** 0.5
        theta[f"{name}_bias"] = torch.zeros(shape[0], dtype=torch.float64)
    return theta
