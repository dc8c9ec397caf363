"""Rows with the same inner products in fewer columns."""

from collections.abc import Sequence

import numpy as np

from shine_exp.data.dataset import Matrix, is_sparse


def merged_columns(parts: Sequence[Matrix], start: np.ndarray) -> Matrix:
    """The rows X (n, p) of the parts and, as the last one, w₀ (p,), in a basis of fewer columns.

    Columns in which X has a single entry, and that in the same row i, act as one: a rotation
    brings the entries x_i of this row in them to (‖x_i‖, 0, …). What is left of w₀ in the zeros of
    all rows, and in the empty columns, is rotated to one column of its own. In text, half of the
    words occur once. The other columns are sorted, the fullest first, so that a product finds the
    numbers that it needs most close to each other. A dense X keeps its columns.
    """
    if not is_sparse(parts[0]):
        return np.vstack([*parts, start])
    import scipy.sparse  # not at the top: dense data do without it, and it is slow to import

    columns = scipy.sparse.vstack(parts, format="csc")
    n_rows = columns.shape[0]
    n_entries = np.diff(columns.indptr)
    shared = np.flatnonzero(n_entries > 1)
    shared = shared[np.argsort(-n_entries[shared], kind="stable")]
    single = np.flatnonzero(n_entries == 1)
    entries = columns[:, single]
    lengths = np.sqrt(np.bincount(entries.indices, entries.data**2, minlength=n_rows))
    (rows,) = lengths.nonzero()
    merged = scipy.sparse.csc_matrix(
        (lengths[rows], rows, np.arange(len(rows) + 1)), shape=(n_rows, len(rows))
    )
    along = (entries @ start[single])[rows] / lengths[rows]
    rest = start @ start - start[shared] @ start[shared] - along @ along
    last = np.concatenate([start[shared], along, [np.sqrt(max(rest, 0.0))]])
    empty = scipy.sparse.csc_matrix((n_rows, 1))
    above = scipy.sparse.hstack([columns[:, shared], merged, empty], format="csr")
    return scipy.sparse.vstack([above, scipy.sparse.csr_matrix(last)], format="csr")
