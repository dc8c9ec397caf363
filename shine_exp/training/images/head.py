"""What surrounds the equilibrium: the injection before it and the classifier after it."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


def normalised(c_in: int, c_out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution and batch normalisation.

    With PyTorch's initial weights, not the cell's N(0, 0.01²): the running variance starts at 1,
    and what is left of that after n steps, 0.9ⁿ, would outweigh a variance of 1e-3 for the first
    hundred steps.
    """
    layer = nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(c_out))


def activated(c_in: int, c_out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU."""
    return nn.Sequential(*normalised(c_in, c_out, kernel, stride), nn.ReLU())


def injection(c_in: int, channels: Sequence[int], n_downsamplings: int) -> nn.Sequential:
    """Two 3 × 3 convolutions, the first `n_downsamplings` of them with stride 2.

    For more than two branches a 1 × 1 convolution follows.
    """
    strides = [2 if i < n_downsamplings else 1 for i in range(2)]
    layers = [
        activated(c_in, channels[0], 3, strides[0]),
        activated(channels[0], channels[0], 3, strides[1]),
    ]
    if len(channels) > 2:
        layers.append(activated(channels[0], channels[0], 1))
    return nn.Sequential(*layers)


class Bottleneck(nn.Module):
    """A bottleneck from c channels by h hidden ones to 4 h.

    1 × 1 (c → h), 3 × 3 (h → h), 1 × 1 (h → 4 h), each with batch normalisation, + a 1 × 1
    shortcut, ReLU.
    """

    def __init__(self, c_in: int, hidden: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            activated(c_in, hidden, 1),
            activated(hidden, hidden, 3),
            normalised(hidden, 4 * hidden, 1),
        )
        self.shortcut = normalised(c_in, 4 * hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


class ClassificationHead(nn.Module):
    """Logits: a bottleneck per branch, downsampled and added to the next, then a classifier.

    The classifier is a 1 × 1 convolution, the mean over the image, and a linear map.
    """

    def __init__(
        self, channels: Sequence[int], hidden: Sequence[int], final_channels: int, n_classes: int
    ) -> None:
        super().__init__()
        self.bottlenecks = nn.ModuleList(
            Bottleneck(c, h) for c, h in zip(channels, hidden, strict=True)
        )
        self.down = nn.ModuleList(activated(4 * a, 4 * b, 3, stride=2) for a, b in pairwise(hidden))
        self.final = activated(4 * hidden[-1], final_channels, 1)
        self.linear = nn.Linear(final_channels, n_classes)

    def forward(self, z: Sequence[Tensor]) -> Tensor:
        out: Tensor = self.bottlenecks[0](z[0])
        for bottleneck, down, x in zip(self.bottlenecks[1:], self.down, z[1:], strict=True):
            out = bottleneck(x) + down(out)
        logits: Tensor = self.linear(self.final(out).mean(dim=(2, 3)))
        return logits
