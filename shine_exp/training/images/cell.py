"""The cell of a multiscale DEQ.

A residual block per branch, then fusion of all branches, then a 1 × 1 convolution each.
"""

from collections.abc import Sequence
from functools import reduce
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm


def convolution(c_in: int, c_out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Without bias, padded to keep the size, weights N(0, 0.01²) (Bai et al. 2020, appendix A)."""
    layer = nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.normal_(layer.weight, std=0.01)
    return layer


class ResidualBlock(nn.Module):
    """A residual block of c channels, expanded to e c.

    conv 3×3 (c → e c), group norm, ReLU, conv 3×3 (e c → c), dropout, + injection, group norm,
    + residual, ReLU, group norm.
    """

    def __init__(self, channels: int, expansion: int, groups: int) -> None:
        super().__init__()
        inner = expansion * channels
        self.conv1 = weight_norm(convolution(channels, inner, 3))
        self.norm1 = nn.GroupNorm(groups, inner)
        self.conv2 = weight_norm(convolution(inner, channels, 3))
        self.norm2 = nn.GroupNorm(groups, channels)
        self.norm3 = nn.GroupNorm(groups, channels)

    def forward(self, z: Tensor, injection: Tensor | None, mask: Tensor | None) -> Tensor:
        out = self.conv2(self.norm1(self.conv1(z)).relu_())
        if mask is not None:
            out = out * mask
        if injection is not None:
            out = out.add_(injection)
        normalised: Tensor = self.norm3(self.norm2(out).add_(z).relu_())
        return normalised


class Fusion(nn.Module):
    """Branch i becomes Σ_j T_ij z_j.

    T_ij is strided 3 × 3 convolutions down, a 1 × 1 convolution and nearest neighbours up, and
    T_ii = I.
    """

    def __init__(self, channels: Sequence[int], groups: int) -> None:
        super().__init__()
        n = len(channels)
        self.paths = nn.ModuleList(
            nn.ModuleList(self._path(j, i, channels, groups) for j in range(n)) for i in range(n)
        )

    @staticmethod
    def _path(j: int, i: int, channels: Sequence[int], groups: int) -> nn.Module:
        if i == j:
            return nn.Identity()
        if i < j:
            up = nn.Upsample(scale_factor=2 ** (j - i), mode="nearest")
            return nn.Sequential(
                convolution(channels[j], channels[i], 1), nn.GroupNorm(groups, channels[i]), up
            )
        layers: list[nn.Module] = []
        for k in range(j, i):
            c = channels[i] if k == i - 1 else channels[j]
            layers += [
                convolution(channels[j], c, 3, stride=2),
                nn.GroupNorm(groups, c),
                nn.ReLU(inplace=True),
            ]
        return nn.Sequential(*layers[:-1])

    def forward(self, z: Sequence[Tensor]) -> list[Tensor]:
        fused = []
        for own, paths in zip(z, self.paths, strict=True):
            # Of odd sizes, the last row or column of what goes up is left over.
            height, width = own.shape[2:]
            terms = [
                path(x)[..., :height, :width]
                for path, x in zip(cast(nn.ModuleList, paths), z, strict=True)
            ]
            fused.append(reduce(torch.add, terms))
        return fused


class MultiscaleCell(nn.Module):
    """f(z, injection, *masks), z a list of (batch, c_i, h / 2ⁱ, w / 2ⁱ).

    The cell of Bai et al. 2020, section 3.1.

    The injection, (batch, c_0, h, w), enters the first branch alone. `masks` are none, or for each
    branch one of shape (batch, c_i, 1, 1): variational dropout, drawn by the caller and the same
    in every evaluation of a solve.
    """

    def __init__(self, channels: Sequence[int], expansion: int, groups: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(c, expansion, groups) for c in channels)
        self.fusion = Fusion(channels, groups)
        self.mix = nn.ModuleList(
            nn.Sequential(
                nn.ReLU(inplace=True), weight_norm(convolution(c, c, 1)), nn.GroupNorm(groups, c)
            )
            for c in channels
        )

    def forward(self, z: Sequence[Tensor], injection: Tensor, *masks: Tensor) -> list[Tensor]:
        out = [
            block(x, injection if i == 0 else None, masks[i] if masks else None)
            for i, (block, x) in enumerate(zip(self.blocks, z, strict=True))
        ]
        return [mix(x) for mix, x in zip(self.mix, self.fusion(out), strict=True)]
