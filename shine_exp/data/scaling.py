"""Features by their standard deviation, and which sizes float64 can compute with."""

import numpy as np

from shine_exp.data.dataset import Matrix, is_sparse
from shine_exp.errors import DataError

# A Hessian maps ‖v‖ to ‖X‖²‖v‖, and norms square that: ‖X‖⁴ must neither over- nor underflow, with room for the rest.
SMALLEST, LARGEST = 1e-60, 1e60
SAFE_EXPONENT = 300  # of 2: the square of such a number, summed over all rows, is far from the ends of float64


def scaled(parts: list[Matrix], centred: bool) -> list[Matrix]:
    """(x_j − μ_j)/σ_j in every part, with the mean and standard deviation of the first; σ_j = 0 counts as 1.

    Not `centred`, μ = 0. A feature whose square would over- or underflow is first multiplied by a power of 2, which
    changes nothing else: it is exact.
    """
    from sklearn.preprocessing import StandardScaler  # slow to import

    exponents = _extreme_exponents(parts[0])
    parts = [_times_powers(part, -exponents) for part in parts]
    scaler = StandardScaler(with_mean=centred).fit(parts[0])
    with np.errstate(over="ignore"):
        parts = [scaler.transform(part) for part in parts]
    if centred:
        return parts
    constant = scaler.scale_ == 1.0  # no other feature that was multiplied has this σ: all of them are below 1
    return [_times_powers(part, np.where(constant, exponents, 0)) for part in parts]


def check_size(x: Matrix, name: str, may_be_zero: bool) -> None:
    """Raises `DataError` where products of the features over- or underflow, or none is other than 0."""
    values = x.data if is_sparse(x) else x
    with np.errstate(over="ignore"):
        norm = float(np.linalg.norm(values))
    if SMALLEST <= norm <= LARGEST or (may_be_zero and norm < SMALLEST):
        return
    largest = float(np.abs(values).max(initial=0.0))
    if not largest:
        raise DataError(f"{name} has no feature other than 0; take another seed or more rows")
    raise DataError(
        f"{name} has features of up to {largest:.1e}, too {'large' if largest > 1 else 'small'} to compute with in "
        "float64; use data.scaling=variance, or other units"
    )


def _extreme_exponents(x: Matrix) -> np.ndarray:
    """e_j with max_i |x_ij| = m 2^e_j, ½ ≤ m < 1, where |e_j| is larger than is safe; else 0."""
    largest = np.abs(x).max(axis=0)
    largest = largest.toarray().ravel() if is_sparse(x) else largest
    exponents = np.frexp(largest)[1]
    return np.where(np.abs(exponents) > SAFE_EXPONENT, exponents, 0)


def _times_powers(x: Matrix, exponents: np.ndarray) -> Matrix:
    """Column j times 2^e_j."""
    if not exponents.any():
        return x
    values, exponents = (x.data, exponents[x.indices]) if is_sparse(x) else (x, exponents)
    largest = np.finfo(np.float64).max
    with np.errstate(over="ignore"):  # of a row that is far larger than those of the first part: refused by its size
        values = np.clip(np.ldexp(values, exponents), -largest, largest)
    if not is_sparse(x):
        return values
    x = x.copy()
    x.data = values
    return x
