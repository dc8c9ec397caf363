"""Mean and variance of every feature."""

import numpy as np

from shine_exp.data.dataset import Matrix, is_sparse

EPSILON = np.finfo(np.float64).eps


def feature_moments(x: Matrix) -> tuple[np.ndarray, np.ndarray]:
    """μ_j = Σ_i x_ij / n and v_j = Σ_i (x_ij − μ_j)² / n, float64 (p,).

    x (n × p) is dense or CSR. Both are summed in the order of scikit-learn's `StandardScaler`,
    which finds the same bits: of CSR where its compiled code fuses no product with a sum, as on
    x86-64.
    """
    n = x.shape[0]
    mean, squares, error = _sums_of_sparse(x) if is_sparse(x) else _sums_of_dense(x)
    # Σ_i (x_ij − μ_j) would be 0, but μ_j is rounded: so much of the squares is of that.
    return mean, (squares - error**2 / n) / n


def is_constant(mean: np.ndarray, variance: np.ndarray, n: int) -> np.ndarray:
    """Which variances of n values, boolean (p,), are no larger than the rounding of their sum.

    That is below n ε v + (n ε μ)²: Chan, Golub and LeVeque, "Algorithms for computing the sample
    variance: analysis and recommendations", 1983.
    """
    return variance <= n * EPSILON * variance + (n * mean * EPSILON) ** 2


def _sums_of_dense(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """μ_j, Σ_i (x_ij − μ_j)² and Σ_i (x_ij − μ_j)."""
    mean = x.mean(axis=0, dtype=np.float64)
    rest = x - mean
    error = rest.sum(axis=0)
    rest *= rest
    return mean, rest.sum(axis=0), error


def _sums_of_sparse(x: Matrix) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same, where each entry that is absent adds (0 − μ_j)² and 0 − μ_j."""
    n, p = x.shape
    n_absent = n - np.bincount(x.indices, minlength=p)
    mean = np.bincount(x.indices, x.data, p) / n
    rest = x.data - mean[x.indices]
    squares = np.bincount(x.indices, rest * rest, p) + n_absent * mean**2
    return mean, squares, np.bincount(x.indices, rest, p) - n_absent * mean
