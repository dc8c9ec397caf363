"""Which hyperparameter regularises which feature."""

import io
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from shine_exp.data.io.files import InputFile, absolute
from shine_exp.errors import UserError, one_line

# A file of groups may have this many bytes per number, with what stands between it and the next,
# and this many for comments. Longer ones are refused unread.
LONGEST_NUMBER = 32
COMMENTS = 1 << 16


def feature_groups(groups: int | InputFile, n_features: int) -> Tensor:
    """The group of every feature, (p,) int64, numbered from 0 without gaps.

    `groups` is a number of contiguous groups of nearly equal size, or the path, from the working
    folder, of a text file with one integer ≥ 0 per feature. Raises `UserError` where it does not
    fit the features.
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
    """The groups in a file, (p,) int64, renumbered from 0 without gaps.

    Raises `OSError` where the file cannot be read, and `ValueError` where it does not hold one
    integer ≥ 0 per feature.
    """
    size = path.stat().st_size
    if size > COMMENTS + LONGEST_NUMBER * n_features:
        raise ValueError(f"has {size} bytes, too many for {n_features} integers")
    try:
        with warnings.catch_warnings():
            # NumPy only warns of an empty file, and of a float that it takes for an integer.
            warnings.simplefilter("error")
            text = io.StringIO(path.read_text(encoding="utf-8-sig"))
            groups = np.loadtxt(text, dtype=np.int64, ndmin=1).ravel()
    except (ValueError, OverflowError, Warning) as error:
        raise ValueError(f"is not a list of integers ({one_line(error, 80)})") from error
    if len(groups) != n_features:
        raise ValueError(f"holds {len(groups)} integers, but the data have {n_features} features")
    if groups.min() < 0:
        raise ValueError(f"holds {groups.min()}, but groups count from 0")
    _, numbered = np.unique(groups, return_inverse=True)
    return numbered
