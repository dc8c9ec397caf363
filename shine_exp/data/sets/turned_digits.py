"""Digits of which the outer and the held-out ones are turned and shifted, within known ranges."""

import numpy as np
import torch
from pydantic import PositiveInt

from shine_exp.data.affine import NAMES, Ranges, warp
from shine_exp.data.multiclass import LabelledRows, MulticlassSplits
from shine_exp.data.sets.bundled import digits_classes
from shine_exp.data.stratified import stratified_split
from shine_exp.errors import DataError


def turned_digits(
    seed: int, n_train: PositiveInt, n_outer: PositiveInt, ranges: Ranges
) -> MulticlassSplits:
    """Training digits as they are, and all others under maps drawn uniformly within `ranges`.

    The seed draws the split and the maps. Raises `DataError` where it is negative or where a set
    lacks a class, and `UserError` where a range is out of bounds.
    """
    if seed < 0:
        raise DataError(f"data.seed={seed} must be at least 0")
    splits = stratified_split(digits_classes(scaling="none"), n_train, n_outer, seed)
    assert splits.shape is not None
    channels, height, width = splits.shape
    half = ranges.in_units_of_the_map(height, width, "data.ranges").numpy()
    drawn = np.random.default_rng([seed, 1])

    def turned(rows: LabelledRows) -> LabelledRows:
        x, labels = rows
        maps = drawn.uniform(-half, half, (len(x), len(NAMES)))
        images = torch.from_numpy(x).reshape(-1, channels, height, width)
        return warp(images, torch.from_numpy(maps)).flatten(1).numpy(), labels

    name = f"turned_digits, seed {seed}"
    return MulticlassSplits(
        splits.train, turned(splits.outer), turned(splits.test), name, splits.shape
    )
