"""Which hyperparameter regularises which feature."""

import io
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from shine_exp.data.io.files import InputFile, absolute
from shine_exp.errors import UserError, one_line

LONGEST_NUMBER = 32  # bytes in a file, with what stands between it and the next
COMMENTS = 1 << 16  # bytes


def feature_groups(groups: int | InputFile, n_features: int) -> Tensor:
    """The group of every feature (p,), int64, numbered from 0 without gaps.

    `groups` is a number of contiguous groups of (nearly) equal size, or a text file with one
    integer ≥ 0 per feature, its path from the working folder. Raises `UserError` where it does not
    match the features.
    """
    if isinstance(groups, int):
        if not 1 <= groups <= n_features:
            raise UserError(
                f"problem.groups={groups}: the data have {n_features} features, so take 1 to "
                f"{n_features}"
            )
        return torch.arange(n_features) * groups // n_features
    path = absolute(groups)
    if not path.is_file():
        raise UserError(
            f"problem.groups={groups}: neither a number nor a file; give a file with one integer "
            "per feature"
        )
    try:
        return torch.from_numpy(_read(path, n_features))
    except (OSError, ValueError) as error:
        raise UserError(
            f"problem.groups={groups}: the file {error}; give one integer per feature"
        ) from error


def _read(path: Path, n_features: int) -> np.ndarray:
    """Raises `OSError` where the file cannot be read, `ValueError` where it does not hold what it
    should.
    """
    size = path.stat().st_size
    if size > COMMENTS + LONGEST_NUMBER * n_features:
        raise ValueError(f"has {size} bytes, too many for {n_features} integers")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "error"
            )  # of an empty file, or a float that is taken for an integer
            text = io.StringIO(path.read_text(encoding="utf-8-sig"))
            groups = np.loadtxt(text, dtype=np.int64, ndmin=1).ravel()
    except (ValueError, OverflowError, Warning) as error:
        raise ValueError(f"is not a list of integers ({one_line(error, 80)})") from error
    if len(groups) != n_features:
        raise ValueError(f"holds {len(groups)} integers, but the data have {n_features} features")
    if groups.min() < 0:
        raise ValueError(f"holds {groups.min()}, but groups count from 0")
    return np.unique(groups, return_inverse=True)[1]
