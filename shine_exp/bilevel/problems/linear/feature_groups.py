"""Which hyperparameter regularises which feature."""

import io
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from shine_exp.data.dataset import Matrix, is_sparse
from shine_exp.data.io.files import InputFile, absolute
from shine_exp.errors import UserError, one_line

Grouping = Literal["contiguous", "frequency"]
# A file of groups may have this many bytes per number, with what stands between it and the next,
# and this many for comments. Longer ones are refused unread.
LONGEST_NUMBER = 32
COMMENTS = 1 << 16


def feature_groups(groups: int | InputFile, x: Matrix, grouping: Grouping = "contiguous") -> Tensor:
    """The group of every feature of the training rows X (n, p): (p,) int64, from 0 without gaps.

    `groups` is a number of groups, or the path, from the working folder, of a text file with one
    integer ≥ 0 per feature. A number of groups is made by `grouping`:

    - "contiguous": of neighbours, in nearly equal numbers of features.
    - "frequency": the features are sorted by document frequency, the number of rows in which one
      is not 0, the most frequent first, and cut where the groups have nearly equal numbers of
      non-zeros, and a feature each. So frequent words are regularised apart from rare ones, and
      each hyperparameter has as many data to be judged by.

    Raises `UserError` where `groups` does not fit the features, or `grouping` does not fit a file.
    """
    n_features: int = x.shape[1]
    if isinstance(groups, int):
        if not 1 <= groups <= n_features:
            raise UserError(
                f"problem.groups={groups}: the data have {n_features} features, so take 1 to "
                f"{n_features}"
            )
        if grouping == "frequency":
            return torch.from_numpy(_by_frequency(groups, x))
        return torch.arange(n_features) * groups // n_features
    if grouping != "contiguous":
        raise UserError(
            f"problem.grouping={grouping}: the groups are those of a file, {groups}; leave "
            "problem.grouping away, or give problem.groups a number"
        )
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


def _by_frequency(n_groups: int, x: Matrix) -> np.ndarray:
    """Groups of nearly equal numbers of non-zeros: 0 has the most frequent features."""
    n_features = x.shape[1]
    if is_sparse(x):
        frequency = np.bincount(x.indices, x.data != 0, minlength=n_features)
    else:
        frequency = np.count_nonzero(x, axis=0)
    by_rank = np.argsort(-frequency, kind="stable")
    so_far = np.cumsum(frequency[by_rank])
    group_of_rank = np.full(n_features, n_groups - 1)
    begin, before = 0, 0
    for group in range(n_groups - 1):
        n_left = n_groups - group
        # A feature may have more than its group's share: the later groups share what is left.
        share = before + (so_far[-1] - before) / n_left
        end = np.clip(np.searchsorted(so_far, share) + 1, begin + 1, n_features - n_left + 1)
        group_of_rank[begin:end] = group
        begin, before = end, so_far[end - 1]
    groups = np.empty_like(group_of_rank)
    groups[by_rank] = group_of_rank
    return groups


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
