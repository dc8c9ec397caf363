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
    numbers that it needs most close to each other. A dense X keeps its columns; a sparse one
    becomes CSC.
    """
    if not is_sparse(parts[0]):
        return np.vstack([*parts, start])
    import scipy.sparse  # not at the top: dense data do without it, and it is slow to import

    last = scipy.sparse.csr_matrix((start, np.arange(len(start)), [0, len(start)]))
    columns = scipy.sparse.vstack([*parts, last], format="csr").tocsc()
    n_entries = np.diff(columns.indptr) - 1  # w₀ has an entry in every column, be it 0
    shared = np.flatnonzero(n_entries > 1)
    shared = shared[np.argsort(-n_entries[shared], kind="stable")]
    # The entry of X in a column that has no other stands before that of w₀.
    single = np.flatnonzero(n_entries == 1)
    entries = columns.indptr[single]
    rows, values = columns.indices[entries], columns.data[entries]
    lengths = np.sqrt(np.bincount(rows, values**2))
    (merged,) = lengths.nonzero()
    lengths = lengths[merged]
    along = np.bincount(rows, values * start[single])[merged] / lengths
    rest = start @ start - start[shared] @ start[shared] - along @ along

    n = columns.shape[0]
    columns = columns[:, shared]  # one at a time: the old columns are the largest thing in memory
    ends = np.stack([merged, np.full_like(merged, n - 1)], axis=1)
    pairs = scipy.sparse.csc_matrix(
        (np.stack([lengths, along], axis=1).ravel(), ends.ravel(), np.arange(0, ends.size + 1, 2)),
        shape=(n, len(merged)),
    )
    rest = scipy.sparse.csc_matrix(([np.sqrt(max(rest, 0.0))], [n - 1], [0, 1]), shape=(n, 1))
    return scipy.sparse.hstack([columns, pairs, rest], format="csc")
