import numpy as np
import pytest

from shine_exp.data.affine import NAMES, Ranges
from shine_exp.data.sets.bundled import digits_classes
from shine_exp.data.sets.turned_digits import turned_digits
from shine_exp.data.stratified import stratified_split
from shine_exp.errors import DataError, UserError

STILL = Ranges(**dict.fromkeys(NAMES, 0.0))


def test_without_ranges_these_are_the_digits() -> None:
    data = turned_digits(3, 600, 600, STILL)
    source = stratified_split(digits_classes("none"), 600, 600, 3)
    for (_, (x, labels)), (_, (expected, same)) in zip(data.parts(), source.parts(), strict=True):
        np.testing.assert_allclose(x, expected, atol=1e-12)
        np.testing.assert_array_equal(labels, same)
    assert data.shape == (1, 8, 8)


def test_outer_and_held_out_digits_are_turned_and_training_ones_are_not() -> None:
    data, still = (turned_digits(0, 600, 600, r) for r in (Ranges(45, 1, 1, 0, 0), STILL))
    np.testing.assert_array_equal(data.train[0], still.train[0])
    for turned, upright in ((data.outer, still.outer), (data.test, still.test)):
        moved = np.abs(turned[0] - upright[0]).max(axis=1) > 0.1
        assert moved.mean() > 0.95
        np.testing.assert_array_equal(turned[1], upright[1])


def test_the_seed_draws_the_split_and_the_maps() -> None:
    ranges = Ranges(45, 1, 1, 0, 0)
    one, same, other = (turned_digits(seed, 600, 600, ranges) for seed in (1, 1, 2))
    assert one.digest == same.digest != other.digest


def test_refusals() -> None:
    with pytest.raises(DataError, match=r"data.seed=-1 must be at least 0"):
        turned_digits(-1, 600, 600, STILL)
    with pytest.raises(UserError, match=r"data.ranges.shift_x=5: take from 0 to 4 pixels"):
        turned_digits(0, 600, 600, Ranges(0, 5, 0, 0, 0))
    with pytest.raises(DataError, match=r"training set: class . has no row"):
        turned_digits(0, 4, 600, STILL)
