"""Files in the LIBSVM text format.

A line is `label index:value index:value …`, with ascending indices.
"""

import io
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Interval

from shine_exp.data.dataset import Dataset, Matrix, Scaling, two_classes
from shine_exp.data.io.compressed import BUFFER, UNREADABLE, Kind, Unpacked
from shine_exp.data.io.files import InputFile, absolute
from shine_exp.errors import DataError, one_line

SNIFFED_BYTES = 1 << 16
MOST_BLANK = 1 << 20  # bytes of blank lines on end
LARGEST_INDEX = 2**31 - 1
KINDS: dict[str, Kind] = {".bz2": "bz2", ".xz": "xz", ".gz": "gz"}

# More features than any public data set has, or hundreds of empty ones beside each entry: a
# damaged index, more likely.
MOST_FEATURES = 10**8
MOST_FEATURES_PER_ENTRY = 1000
NEVER_TOO_MANY = 10**6


def libsvm(
    path: InputFile,
    scaling: Scaling,
    n_features: Annotated[int, Interval(ge=1, le=LARGEST_INDEX)] | None = None,
) -> Dataset:
    """The user's own file, plain, .bz2, .xz or .gz, CSR.

    Labels are any two values; the smaller becomes −1. `path` counts from the working folder.
    `n_features` is for a file whose last features have no entry, or that has more features than
    `read_libsvm` believes. Raises `DataError` as `read_libsvm` and `Dataset` do, and where the
    file has more features than `n_features`.
    """
    file = absolute(path)
    x, labels = read_libsvm(file, n_features)
    return Dataset(x, two_classes(labels, str(file)), str(file), scaling)


def read_libsvm(path: Path, n_features: int | None = None) -> tuple[Matrix, np.ndarray]:
    """Rows (n × p, CSR, float64) and labels (n,) as they stand in the file.

    Whether its indices count from 0 or 1 is found automatically. Raises `DataError` where the file
    is missing, not a file, empty, binary, damaged, or malformed (with the line), and where it has
    more features than `n_features` or, without it, more than is plausible (with the row).
    """
    from scipy.sparse import csr_matrix  # slow to import

    if not path.exists():
        raise DataError(
            f"{path}: no such file; data.path takes LIBSVM text, plain, .bz2, .xz or .gz"
        )
    if not path.is_file():
        raise DataError(
            f"{path}: is not a file; data.path takes LIBSVM text, plain, .bz2, .xz or .gz"
        )
    if not path.stat().st_size:
        raise DataError(f"{path}: is empty")
    try:
        x, labels = _parse(path)
    except UNREADABLE as error:
        raise DataError(
            f"{path}: cannot be read, or is damaged ({one_line(error)}); take a fresh copy"
        ) from error
    if not x.nnz:
        what = "features" if len(labels) else "rows"
        raise DataError(f"{path}: holds no {what}; a line is: label index:value …")
    first = int(x.indices.min() > 0)  # the index of the first feature
    width = x.shape[1] - first
    _check_width(path, x, width, n_features)
    # The parser's indices have 64 bits, with which products are slower.
    index_type = np.int32 if x.nnz <= LARGEST_INDEX else np.int64
    indices, starts = (x.indices - first).astype(index_type), x.indptr.astype(index_type)
    return csr_matrix((x.data, indices, starts), shape=(x.shape[0], n_features or width)), labels


def _check_width(path: Path, x: Matrix, width: int, n_features: int | None) -> None:
    if n_features is not None and width > n_features:
        raise DataError(f"{path}: has {width} features, more than data.n_features={n_features}")
    plausible = min(MOST_FEATURES, max(NEVER_TOO_MANY, MOST_FEATURES_PER_ENTRY * x.nnz))
    if n_features is not None or width <= plausible:
        return
    largest = int(x.indices.argmax())
    row = int(np.searchsorted(x.indptr, largest, side="right"))
    raise DataError(
        f"{path}: row {row} has the feature index {x.indices[largest]}, but the file has {x.nnz} "
        "entries in all; correct the row or, if that many features are meant, "
        f"set data.n_features={width}"
    )


def _parse(path: Path) -> tuple[Matrix, np.ndarray]:
    """Indices as they stand in the file: a feature more than it has, where they count from 1."""
    from sklearn.datasets import load_svmlight_file  # slow to import

    try:
        with _text(path) as text:
            if b"\0" in text.peek()[:SNIFFED_BYTES]:
                raise DataError(
                    f"{path}: binary, not LIBSVM text; a compressed file is named .bz2, .xz or .gz"
                )
            x, labels = load_svmlight_file(text, zero_based=True)
            return x, labels
    except (ValueError, OverflowError) as error:
        raise DataError(f"{path}{_first_fault(path) or ': ' + one_line(error)}") from error


class _Text(Unpacked):
    """Refuses a file of blank lines.

    The parser takes minutes to pass over what packs into a few bytes.
    """

    _n_blank = 0

    def readinto(self, buffer: Any) -> int:
        n = super().readinto(buffer)
        blank = bytes(memoryview(buffer)[:n]).isspace()
        self._n_blank = self._n_blank + n if blank else 0
        if self._n_blank > MOST_BLANK:
            fault = f"has {MOST_BLANK} bytes of blank lines on end"
            raise DataError(f"{self.path}: {fault}; it is damaged, or no data")
        return n


def _text(path: Path) -> io.BufferedReader:
    return io.BufferedReader(_Text(path, KINDS.get(path.suffix.lower(), "plain")), BUFFER)


def _first_fault(path: Path) -> str | None:
    """Where scikit-learn's parser stumbled and why: it does not say where."""
    with _text(path) as text:
        faults = ((number, _fault(line)) for number, line in enumerate(text, start=1))
        return next((f", line {number}: {fault}" for number, fault in faults if fault), None)


def _fault(line: bytes) -> str | None:
    """What is wrong with a line by scikit-learn's rules, or None.

    Its rules: a comment goes after #, and a feature qid: is ignored.
    """
    label, *features = line.partition(b"#")[0].split() or [b"0"]
    if not _is_number(label):
        return f"the label {_shown(label)} is not a number"
    if features and features[0].startswith(b"qid") and b":" in features[0]:
        features = features[1:]
    last = -1
    for feature in features:
        text, colon, value = feature.partition(b":")
        index = _index(text)
        if not colon or index < 0 or not _is_number(value):
            return f"{_shown(feature)} is not index:value"
        if index > LARGEST_INDEX:
            return f"the feature index {_shown(text)} is too large"
        if index <= last:
            return f"the feature index {index} follows {last}; indices must ascend"
        last = index
    return None


def _index(text: bytes) -> int:
    try:
        return int(text)
    except ValueError:
        return -1


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _shown(text: bytes, at_most: int = 24) -> str:
    return repr(text[:at_most])[1:] + ("…" if len(text) > at_most else "")
