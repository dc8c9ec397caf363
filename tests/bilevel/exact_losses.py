"""Outer losses at θ*(α), by Newton's method in dense algebra."""

import numpy as np
from scipy.special import expit

from shine_exp.data.splits import Splits


def exact_outer_loss(splits: Splits, alpha: float) -> float:
    """The mean logistic loss of the outer set at θ*(α)."""
    x, y = splits.outer
    theta = _minimiser(*splits.train, np.exp(alpha))
    return float(np.logaddexp(0.0, -y * (x @ theta)).mean())


def _minimiser(x: np.ndarray, y: np.ndarray, penalty: float) -> np.ndarray:
    """θ*(α), found for columns of length 1, with steps that are halved until the loss falls."""
    lengths = np.linalg.norm(x, axis=0)
    x, ridge = x / lengths, penalty / lengths**2
    theta = np.zeros(x.shape[1])

    def loss(theta: np.ndarray) -> float:
        return np.logaddexp(0.0, -y * (x @ theta)).sum() + 0.5 * (ridge * theta) @ theta

    for _ in range(200):
        p = expit(-y * (x @ theta))
        gradient = ridge * theta - x.T @ (y * p)
        step = np.linalg.solve((x.T * (p * (1 - p))) @ x + np.diag(ridge), -gradient)
        decrease = -gradient @ step
        if decrease < 1e-13 * loss(theta):
            break
        t = 1.0
        while loss(theta + t * step) > loss(theta) - 1e-4 * t * decrease:
            t /= 2
        theta = theta + t * step
    return theta / lengths
