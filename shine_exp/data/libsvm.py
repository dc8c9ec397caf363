"""Files in the LIBSVM text format: a line is `label index:value index:value …`, indices ascending."""

import bz2
import gzip
import io
import lzma
import zlib
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from sklearn.datasets import load_svmlight_file

from shine_exp.data.dataset import Dataset, Scaling, two_classes
from shine_exp.data.digest import InputFile
from shine_exp.errors import DataError, one_line

SNIFFED_BYTES = 1 << 16
LARGEST_INDEX = 2**31 - 1


def libsvm(path: InputFile, scaling: Scaling, n_features: int | None = None) -> Dataset:
    """The user's own file, plain, .bz2, .xz or .gz, CSR, with labels of any two values (the smaller becomes −1).

    `n_features` is for a file whose last features have no entry. Raises `DataError` as `read_libsvm` and `Dataset` do,
    and where the file has more features than `n_features`.
    """
    file = Path(path).expanduser()
    x, labels = read_libsvm(file)
    if n_features is not None:
        if x.shape[1] > n_features:
            raise DataError(f"{file}: has {x.shape[1]} features, more than data.n_features={n_features}")
        x = sp.csr_matrix((x.data, x.indices, x.indptr), shape=(x.shape[0], n_features))
    return Dataset(x, two_classes(labels, str(file)), str(file), scaling)


def read_libsvm(path: Path) -> tuple[sp.csr_matrix, np.ndarray]:
    """Rows (n × p, CSR, float64) and labels (n,) as they stand in the file; indices from 0 or 1, found automatically.

    Raises `DataError` where the file is missing, not a file, empty, binary, damaged, or malformed (with the line).
    """
    if not path.exists():
        raise DataError(f"{path}: no such file; data.path takes LIBSVM text, plain, .bz2, .xz or .gz")
    if not path.is_file():
        raise DataError(f"{path}: is not a file; data.path takes LIBSVM text, plain, .bz2, .xz or .gz")
    if not path.stat().st_size:
        raise DataError(f"{path}: is empty")
    try:
        x, labels = _parse(path)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read, or is damaged ({one_line(error)}); take a fresh copy") from error
    if not x.nnz:
        raise DataError(f"{path}: holds no {'features' if len(labels) else 'rows'}; a line is: label index:value …")
    index_type = np.int32 if x.nnz <= LARGEST_INDEX else np.int64  # the parser's are 64 bit: slower products
    return sp.csr_matrix((x.data, x.indices.astype(index_type), x.indptr.astype(index_type)), shape=x.shape), labels


def _parse(path: Path) -> tuple[sp.csr_matrix, np.ndarray]:
    try:
        with _open(path) as stream:
            if b"\0" in stream.read(SNIFFED_BYTES):
                raise DataError(f"{path}: binary, not LIBSVM text; a compressed file is named .bz2, .xz or .gz")
            stream.seek(0)
            x, labels = load_svmlight_file(stream)
            return x, labels
    except (ValueError, OverflowError) as error:
        raise DataError(f"{path}{_first_fault(path) or ': ' + one_line(error)}") from error


def _open(path: Path) -> io.BufferedIOBase:
    match path.suffix.lower():
        case ".bz2":
            return bz2.open(path)
        case ".xz":
            return lzma.open(path)
        case ".gz":
            return gzip.open(path)
        case _:
            return path.open("rb")


def _first_fault(path: Path) -> str | None:
    """Where scikit-learn's parser stumbled and why: it does not say where."""
    with _open(path) as stream:
        faults = ((number, _fault(line)) for number, line in enumerate(stream, start=1))
        return next((f", line {number}: {fault}" for number, fault in faults if fault), None)


def _fault(line: bytes) -> str | None:
    """What is wrong with a line by scikit-learn's rules (comments after #, an ignored qid:), or None."""
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
