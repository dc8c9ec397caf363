"""Features by their standard deviation, and which sizes float64 can compute with."""

import numpy as np

from shine_exp.data.dataset import Matrix, is_sparse
from shine_exp.data.moments import feature_moments, is_constant
from shine_exp.errors import DataError

# A Hessian takes v to something of norm ‖X‖²‖v‖, and a norm is a root of squares: ‖X‖⁴ must
# neither over- nor underflow, and leave room for the other factors.
SMALLEST, LARGEST = 1e-60, 1e60
SAFE_EXPONENT = 300  # of 2: squares of such numbers, summed over all rows, stay inside float64


def scaled(parts: list[Matrix], centred: bool) -> list[Matrix]:
    """(x_j − μ_j)/σ_j in every part; μ_j = 0 if not centred.

    Mean and standard deviation are those of the first part; σ_j counts as 1 where rounding alone
    explains it. A feature whose square would over- or underflow is first multiplied by a power of
    2: that is exact, and the quotient is the same.
    """
    exponents = _extreme_exponents(parts[0])
    parts = [_times_powers(part, -exponents) for part in parts]
    mean, variance = feature_moments(parts[0])
    constant = is_constant(mean, variance, parts[0].shape[0])
    deviation = np.sqrt(np.where(constant, 1.0, variance))
    with np.errstate(over="ignore"):
        if centred:
            return [(part - mean) / deviation for part in parts]
        parts = [_divided(part, deviation) for part in parts]
    return [_times_powers(part, np.where(constant, exponents, 0)) for part in parts]


def check_size(x: Matrix, name: str, may_be_zero: bool) -> None:
    """Raises `DataError` where products of the features over- or underflow, or all are 0."""
    values = x.data if is_sparse(x) else x
    with np.errstate(over="ignore"):
        norm = float(np.linalg.norm(values))
    if SMALLEST <= norm <= LARGEST or (may_be_zero and norm < SMALLEST):
        return
    largest = float(np.abs(values).max(initial=0.0))
    if not largest:
        raise DataError(f"{name} has no feature other than 0; take another seed or more rows")
    extreme = "large" if largest > 1 else "small"
    raise DataError(
        f"{name} has features of up to {largest:.1e}, too {extreme} to compute with in float64; "
        "use data.scaling=variance, or other units"
    )


def _extreme_exponents(x: Matrix) -> np.ndarray:
    """e_j with max_i |x_ij| = m 2^e_j, ½ ≤ m < 1, where |e_j| is larger than is safe; else 0."""
    largest = np.abs(x).max(axis=0)
    largest = largest.toarray().ravel() if is_sparse(x) else largest
    exponents = np.frexp(largest)[1]
    return np.where(np.abs(exponents) > SAFE_EXPONENT, exponents, 0)


def _divided(x: Matrix, deviation: np.ndarray) -> Matrix:
    """Column j over σ_j."""
    if not is_sparse(x):
        return x / deviation
    reciprocal = 1.0 / deviation  # rounded twice, as by scikit-learn
    return _with_values(x, x.data * reciprocal[x.indices])


def _times_powers(x: Matrix, exponents: np.ndarray) -> Matrix:
    """Column j times 2^e_j."""
    if not exponents.any():
        return x
    values, exponents = (x.data, exponents[x.indices]) if is_sparse(x) else (x, exponents)
    largest = np.finfo(np.float64).max
    with np.errstate(over="ignore"):  # of a row that is far larger than those of the first part,
        # and that `check_size` then refuses
        values = np.clip(np.ldexp(values, exponents), -largest, largest)
    return _with_values(x, values) if is_sparse(x) else values


def _with_values(x: Matrix, values: np.ndarray) -> Matrix:
    """A CSR matrix with other values for its entries."""
    x = x.copy()
    x.data = values
    return x
