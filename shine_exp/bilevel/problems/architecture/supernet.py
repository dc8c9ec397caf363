"""A network with a choice of operations on each edge of its cell, and mixtures of these choices.

    x₂ = e₁₂(x₁),    x₃ = e₁₃(x₁) + e₂₃(x₂),    e(x) = Σ_o p_o o(x)

This is the cell of NAS-Bench-201 (Dong & Yang 2020) made small: three nodes x, on each of three
edges e one of five operations o, and so 125 networks. A mixture p of the operations, as DARTS has
it (Liu et al. 2019), makes one *supernet* of them all.
"""

import torch
from torch import Tensor
from torch.nn import functional

from shine_exp.randomness import generator

EDGES = ("1→2", "1→3", "2→3")
OPERATIONS = ("none", "identity", "conv1x1", "conv3x3", "pool3x3")
NONE, IDENTITY, POINT, CONV, POOL = range(len(OPERATIONS))


class Supernet:
    """(p, θ, images) ↦ scores: a stem of stride 2, the cell, the mean over pixels, a linear head.

        conv1x1(x) = K₁ ∗ tanh x + b₁,    conv3x3(x) = K₃ ∗ tanh x + b₃

    All nodes have `width` channels. A convolution of small images costs least as one product with
    a matrix: the two of an edge are one kernel p₁K₁ + p₃K₃, K₁ being the centre of a 3 × 3 kernel,
    and this kernel is one (pixels · channels)² matrix.
    """

    def __init__(self, side: int, n_classes: int, width: int, device: str) -> None:
        self.side, self.n_classes, self.width, self.device = side, n_classes, width, device
        stem = _taps(side, stride=2)
        self.n_pixels = stem.shape[2]
        cell = _taps(round(self.n_pixels**0.5), stride=1)
        self._stem, self._cell = stem.to(device), cell.to(device)
        # Of all pixels that a window of the kernel sees, each has the same share in the mean.
        seen = self._cell.sum(dim=0)
        self._pool = seen / seen.sum(dim=0)
        self._identity = torch.eye(self.n_pixels).to(seen)

    def n_weights(self) -> Tensor:
        """Of each operation on one edge (5,): how many numbers of θ it has."""
        counts = torch.zeros(len(OPERATIONS), dtype=torch.float64, device=self.device)
        counts[POINT] = self.width**2 + self.width
        counts[CONV] = 9 * self.width**2 + self.width
        return counts

    def start(self, seed: int) -> dict[str, Tensor]:
        """θ₀: kernels from N(0, 1 / fan-in), biases 0."""
        edges, width = len(EDGES), self.width
        kernels = {
            "stem": (width, 1, 3, 3),
            "point": (edges, width, width, 1, 1),
            "conv": (edges, width, width, 3, 3),
            "head": (self.n_classes, width),
        }
        biases = {"stem": (width,), "point": (edges, width), "conv": (edges, width)}
        drawn = generator(seed, 1)
        theta = {}
        for name, shape in kernels.items():
            fan_in = shape[-1] if name == "head" else shape[-3] * shape[-2] * shape[-1]
            kernel = torch.randn(shape, dtype=torch.float64, generator=drawn) / fan_in**0.5
            theta[name] = kernel.to(self.device)
            bias = torch.zeros(biases.get(name, (self.n_classes,)), dtype=torch.float64)
            theta[f"{name}_bias"] = bias.to(self.device)
        return theta

    def __call__(self, mixture: Tensor, theta: dict[str, Tensor], images: Tensor) -> Tensor:
        """The scores (n, classes) of images (n, side²), for a mixture (3 edges, 5 operations).

        A row of the mixture is 0 or larger and sums to 1; with a single 1 in each row, this is one
        of the 125 networks.
        """
        stem = _matrix(theta["stem"], self._stem)
        first = torch.addmm(self._spread(theta["stem_bias"]), images, stem)
        point, conv = mixture[:, POINT, None], mixture[:, CONV, None]
        biases = point * theta["point_bias"] + conv * theta["conv_bias"]
        point, conv = point[..., None, None, None], conv[..., None, None, None]
        kernels = functional.pad(point * theta["point"], (1, 1, 1, 1)) + conv * theta["conv"]

        def edge(e: int, x: Tensor) -> Tensor:
            kernel = _matrix(kernels[e], self._cell)
            convolved = torch.addmm(self._spread(biases[e]), torch.tanh(x), kernel)
            linear = mixture[e, IDENTITY] * self._identity + mixture[e, POOL] * self._pool
            return convolved + (x.reshape(-1, self.n_pixels) @ linear).reshape(x.shape)

        second = edge(0, first)
        third = edge(1, first) + edge(2, second)
        pooled = third.reshape(-1, self.width, self.n_pixels).mean(dim=2)
        return torch.addmm(theta["head_bias"], pooled, theta["head"].T)

    def _spread(self, bias: Tensor) -> Tensor:
        """A bias (width,) on every pixel (width · pixels,)."""
        return bias.repeat_interleave(self.n_pixels)


def _taps(side: int, stride: int) -> Tensor:
    """(9, pixels before, pixels after): which pixel each entry of a 3 × 3 kernel brings where."""
    pixels = torch.eye(side**2, dtype=torch.float64).reshape(-1, 1, side, side)
    entries = torch.eye(9, dtype=torch.float64).reshape(-1, 1, 3, 3)
    moved = functional.conv2d(pixels, entries, stride=stride, padding=1)
    return moved.flatten(2).transpose(0, 1).contiguous()


def _matrix(kernel: Tensor, taps: Tensor) -> Tensor:
    """The convolution with a kernel (out, in, 3, 3) as a matrix (in · before, out · after)."""
    n_out, n_in = kernel.shape[:2]
    _, before, after = taps.shape
    matrix = torch.einsum("oit,tjk->ijok", kernel.flatten(2), taps)
    return matrix.reshape(n_in * before, n_out * after)
