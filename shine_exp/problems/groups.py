"""Which hyperparameter regularises which feature."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from shine_exp.data.digest import InputFile
from shine_exp.errors import UserError


def feature_groups(groups: int | InputFile, n_features: int) -> Tensor:
    """The group of every feature (p,), int64, numbered from 0 without gaps.

    `groups` is a number of contiguous groups of (nearly) equal size, or a text file with one integer per feature.
    Raises `UserError` where it does not match the features.
    """
    if isinstance(groups, int):
        if not 1 <= groups <= n_features:
            raise UserError(f"problem.groups={groups}: the data have {n_features} features, so take 1 to {n_features}")
        return torch.arange(n_features) * groups // n_features
    return torch.from_numpy(_read(Path(str(groups)), n_features))


def _read(path: Path, n_features: int) -> np.ndarray:
    if not path.is_file():
        raise UserError(f"problem.groups={path}: neither a number nor a file; give a file with one integer per feature")
    try:
        groups = np.loadtxt(path, dtype=np.int64, ndmin=1).ravel()
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"problem.groups={path}: not a list of integers ({str(error).splitlines()[0]})") from error
    if len(groups) != n_features:
        raise UserError(f"problem.groups={path}: holds {len(groups)} integers, but the data have {n_features} features")
    return np.unique(groups, return_inverse=True)[1]
