"""Random affine maps of images: the ranges of their parameters, and the images that they make.

    new(x) = old(A x + t),    A = e^s R(φ) (1 k; 0 1),    t = (t₁, t₂)

with the rotation φ, the shift t, the log-scale s and the shear k. Of each, the range is (−ρ, ρ),
and ρ its half-range. Points x lie in [−1, 1]², as `torch.nn.functional.affine_grid` has them.
"""

import math
from dataclasses import asdict, dataclass, fields
from typing import Annotated

import torch
from annotated_types import Interval
from pydantic import NonNegativeFloat
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from shine_exp.errors import UserError

# The largest half-ranges: half a turn, half an image, a factor of e, a shear of 45 degrees.
LARGEST = (math.pi, 1.0, 1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Ranges:
    """The five half-ranges, in the units that one thinks in: degrees, pixels, and numbers."""

    rotation: Annotated[float, Interval(ge=0, le=180)]
    shift_x: NonNegativeFloat
    shift_y: NonNegativeFloat
    log_scale: Annotated[float, Interval(ge=0, le=1)]
    shear: Annotated[float, Interval(ge=0, le=1)]

    def in_units_of_the_map(self, height: int, width: int, key: str) -> Tensor:
        """The half-ranges of φ, t₁, t₂, s and k for such images, (5,), float64.

        Raises `UserError`, under the name `key`, where a shift is longer than half an image.
        """
        for name, side in (("shift_x", width), ("shift_y", height)):
            if getattr(self, name) > side / 2:
                raise UserError(
                    f"{key}.{name}={getattr(self, name)}: take from 0 to {side / 2:g} pixels, half "
                    "an image"
                )
        return torch.tensor(list(asdict(self).values()), dtype=torch.float64) * units(height, width)


NAMES = tuple(field.name for field in fields(Ranges))


def units(height: int, width: int) -> Tensor:
    """A degree, a pixel in x and in y, and 1 for s and k, in the units of the map: (5,)."""
    return torch.tensor([math.pi / 180, 2 / width, 2 / height, 1.0, 1.0], dtype=torch.float64)


def warp(images: Tensor, maps: Tensor) -> Tensor:
    """Images (n, channels, height, width), each under its own map (φ, t₁, t₂, s, k).

    `maps` is (n, 5). Bilinear between pixels, and 0 outside of the image; differentiable in both.
    """
    angle, shift_x, shift_y, log_scale, shear = maps.unbind(dim=1)
    cos, sin = log_scale.exp() * angle.cos(), log_scale.exp() * angle.sin()
    first_row = torch.stack([cos, shear * cos - sin, shift_x], dim=1)
    second_row = torch.stack([sin, shear * sin + cos, shift_y], dim=1)
    affine = torch.stack([first_row, second_row], dim=1)
    grid = affine_grid(affine, list(images.shape), align_corners=False)
    return grid_sample(images, grid, align_corners=False)
