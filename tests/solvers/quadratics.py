"""Quadratic functions with a known spectrum, and their secant pairs."""

import numpy as np
import torch
from torch import Tensor

D = 8


def spd(seed: int, d: int = D, condition: float = 30.0) -> Tensor:
    """A symmetric matrix (d, d) with eigenvalues from 1 to `condition`."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))
    return torch.from_numpy(q * np.geomspace(1.0, condition, d) @ q.T)


def secant_pairs(seed: int, n: int) -> tuple[Tensor, Tensor]:
    """n random steps s (n, D), and y = A s for an A of `spd`."""
    s = torch.from_numpy(np.random.default_rng(seed).standard_normal((n, D)))
    return s, s @ spd(seed + 1)
