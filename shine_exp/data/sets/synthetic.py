"""Made data: sparse rows like those of text, and dense Gaussian rows.

NumPy draws them, not the generator of the runs: they are arrays, and a data set is known by its
own seed, `data.seed`, whatever the seed of the run.
"""

import numpy as np

from shine_exp.data.dataset import Dataset, Matrix, Scaling
from shine_exp.errors import DataError

INFORMATIVE = 0.1  # share of the features that carry a weight in the true model
# standard deviation of the true log odds: the best classifier is right on about 87 % of the rows
MARGIN = 4.0


def synthetic_text(n: int, p: int, nnz_per_row: int, seed: int, scaling: Scaling) -> Dataset:
    """Term frequencies of n documents over p words, CSR, about `nnz_per_row` words a document.

    Rows are ℓ²-normalised. A document draws its words from Zipf's law, P(word of rank k) ∝ 1/k;
    ranks are scattered over the columns. Labels follow P(y = +1) = σ(m), where m is linear in the
    row, with normal weights on a tenth of the words, and shifted and scaled to median 0 and
    standard deviation 4. Raises `DataError` where the sizes make no sense.
    """
    _check_sizes("synthetic_text", n, p, seed)
    if not 1 <= nnz_per_row <= p // 2:
        raise DataError(
            f"synthetic_text: data.nnz_per_row={nnz_per_row} is not between 1 and {p // 2}, "
            "half of data.p"
        )
    rng = np.random.default_rng(seed)
    x = _term_frequencies(n, p, nnz_per_row, rng)
    weights = rng.standard_normal(p) * (rng.random(p) < INFORMATIVE)
    log_odds = x @ weights
    log_odds -= np.median(log_odds)
    log_odds *= MARGIN / (log_odds.std() or 1.0)
    return Dataset(x, _logistic_labels(log_odds, rng), "synthetic_text", scaling)


def gaussian(n: int, p: int, seed: int, scaling: Scaling) -> Dataset:
    """Rows x ~ N(0, I_p), dense, and labels with P(y = +1) = σ(xᵀθ), θ ~ N(0, I_p/p).

    Raises `DataError` where the sizes make no sense.
    """
    _check_sizes("gaussian", n, p, seed)
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, p))
    labels = _logistic_labels(x @ rng.standard_normal(p) / np.sqrt(p), rng)
    return Dataset(x, labels, "gaussian", scaling)


def _check_sizes(name: str, n: int, p: int, seed: int) -> None:
    for parameter, value, least in (("n", n, 1), ("p", p, 1), ("seed", seed, 0)):
        if value < least:
            raise DataError(f"{name}: data.{parameter}={value} must be at least {least}")


def _term_frequencies(n: int, p: int, nnz_per_row: int, rng: np.random.Generator) -> Matrix:
    from scipy.sparse import coo_matrix  # slow to import, as is scikit-learn
    from sklearn.preprocessing import normalize

    frequencies = 1.0 / np.arange(1, p + 1)
    frequencies /= frequencies.sum()
    n_words = _document_length(frequencies, nnz_per_row)
    ranks = np.searchsorted(np.cumsum(frequencies), rng.random((n, n_words)))
    columns = rng.permutation(p)[np.minimum(ranks, p - 1)]  # the last sum may round to less than 1
    rows = np.repeat(np.arange(n), n_words)
    counts = coo_matrix((np.ones(columns.size), (rows, columns.ravel())), shape=(n, p)).tocsr()
    normalize(counts, copy=False)
    return counts


def _document_length(frequencies: np.ndarray, nnz_per_row: int) -> int:
    """The fewest draws T for which Σ_k 1 − (1 − f_k)^T reaches `nnz_per_row`.

    That sum is the expected number of different words, f_k the frequency of word k.
    """
    below, enough = 0, nnz_per_row
    log_absent = np.log1p(-frequencies)
    while -np.expm1(enough * log_absent).sum() < nnz_per_row:
        below, enough = enough, 2 * enough
    while enough - below > 1:
        middle = (below + enough) // 2
        if -np.expm1(middle * log_absent).sum() < nnz_per_row:
            below = middle
        else:
            enough = middle
    return enough


def _logistic_labels(log_odds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    probability = 0.5 * (1.0 + np.tanh(0.5 * log_odds))  # σ, which does not overflow
    return np.where(rng.random(log_odds.shape) < probability, 1.0, -1.0)
