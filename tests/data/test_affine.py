"""Affine maps of images against pixels moved by hand."""

import math

import pytest
import torch
from torch import Tensor

from shine_exp.data.affine import LARGEST, NAMES, Ranges, units, warp
from shine_exp.errors import UserError


def images(n: int = 1, side: int = 5) -> Tensor:
    return torch.arange(n * side * side, dtype=torch.float64).reshape(n, 1, side, side)


def maps(**values: float) -> Tensor:
    return torch.tensor([[values.get(name, 0.0) for name in NAMES]], dtype=torch.float64)


def test_map_of_zeros_changes_nothing() -> None:
    torch.testing.assert_close(warp(images(3), torch.zeros(3, 5).double()), images(3))


def test_shift_by_one_pixel_moves_the_columns_and_leaves_zeros() -> None:
    warped = warp(images(), maps(shift_x=2 / 5))
    torch.testing.assert_close(warped[..., :-1], images()[..., 1:])
    assert (warped[..., -1] == 0).all()
    rows = warp(images(), maps(shift_y=2 / 5))
    torch.testing.assert_close(rows[..., :-1, :], images()[..., 1:, :])


def test_quarter_turn_is_rot90() -> None:
    warped = warp(images(), maps(rotation=math.pi / 2))
    torch.testing.assert_close(warped, torch.rot90(images(), 1, (2, 3)))


def test_shear_moves_a_row_by_its_distance_from_the_centre() -> None:
    warped = warp(images(), maps(shear=1.0))
    torch.testing.assert_close(warped[0, 0, 2], images()[0, 0, 2])
    torch.testing.assert_close(warped[0, 0, 3, :-1], images()[0, 0, 3, 1:])


def test_log_scale_of_two_brings_every_other_pixel() -> None:
    warped = warp(images(), maps(log_scale=math.log(2)))
    torch.testing.assert_close(warped[0, 0, 1:4, 1:4], images()[0, 0, ::2, ::2])


def test_warp_is_differentiable_in_the_maps() -> None:
    image = torch.randn(2, 1, 6, 6, dtype=torch.float64)
    at = 0.05 * torch.randn(2, 5, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda m: warp(image, m), at.requires_grad_())


def test_units_turn_degrees_and_pixels_into_those_of_the_map() -> None:
    half = Ranges(180, 4, 3, 1, 1).in_units_of_the_map(6, 8, "start")
    torch.testing.assert_close(half, torch.tensor(LARGEST, dtype=torch.float64))
    torch.testing.assert_close(units(6, 8)[1:3], torch.tensor([2 / 8, 2 / 6]).double())


@pytest.mark.parametrize("name", ["shift_x", "shift_y"])
def test_refuses_a_shift_of_more_than_half_an_image(name: str) -> None:
    ranges = Ranges(**(dict.fromkeys(NAMES, 0.0) | {name: 4.5}))
    with pytest.raises(UserError, match=rf"data.ranges.{name}=4.5: take from 0 to 4 pixels"):
        ranges.in_units_of_the_map(8, 8, "data.ranges")
