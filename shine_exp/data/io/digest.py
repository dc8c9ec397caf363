"""What a run read, known by its content.

digest(file)   = SHA-256 of its bytes
digest(folder) = SHA-256 of the names and digests of the images in it
digest(arrays) = SHA-256 of their shapes and values, whatever the width of an index, or the machine
"""

import hashlib
import json
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from shine_exp import durable
from shine_exp.data.io.files import absolute
from shine_exp.data.io.image_names import names_in_folder
from shine_exp.errors import DataError, one_line

# A smaller file is read again: that is cheap, and while it is read the clock of the file system
# need not tick, so that its times could miss a change.
SMALL = 1 << 24  # bytes


class Stamp(NamedTuple):
    """What changes when a file's content does. Of a folder: see `stamp_of`."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


_known: dict[tuple[Path, Stamp], str] = {}  # the digests of large files and folders


def stamp_of(path: str | Path) -> Stamp:
    """The stamp of a file, or of a folder of images.

    A folder's has the sum of their sizes, their latest times, and its own inode. The folders
    between count for the times, so that an image that is added, moved or deleted is seen. Raises
    `DataError` where the path leads to neither, or cannot be read.
    """
    path = absolute(path)
    own = _stat(path)
    if stat.S_ISREG(own.st_mode):
        return Stamp(own.st_size, own.st_mtime_ns, own.st_ctime_ns, own.st_ino)
    if not stat.S_ISDIR(own.st_mode):
        raise DataError(f"{path}: neither a file nor a folder")
    names = names_in_folder(path)
    files = [_stat(os.path.join(path, *name)) for name in names]
    folders = {name[:depth] for name in names for depth in range(1, len(name))}
    all_of_them = [own, *files, *(_stat(os.path.join(path, *folder)) for folder in folders)]
    return Stamp(
        sum(file.st_size for file in files),
        max(entry.st_mtime_ns for entry in all_of_them),
        max(entry.st_ctime_ns for entry in all_of_them),
        own.st_ino,
    )


def digest_of(path: str | Path, cache: Path | None = None) -> str:
    """SHA-256 of a file or of a folder of images, in hex.

    While its stamp stays, what is large is read once in a process or, with a folder `cache`, once
    for all: its digest is kept in `cache/digests`. Raises `DataError` where the path leads to
    neither, cannot be read, or changes while it is read.
    """
    path = absolute(path)
    stamp = stamp_of(path)
    if stamp.size < SMALL:
        return _read(path, stamp)
    if (path, stamp) not in _known:
        _known[path, stamp] = _read(path, stamp) if cache is None else _recorded(path, stamp, cache)
    return _known[path, stamp]


def digest_of_arrays(*arrays: np.ndarray) -> str:
    """SHA-256 of arrays of numbers: floats count as float64, integers as int64, bytes as bytes."""
    digest = hashlib.sha256()
    for array in arrays:
        kind = "|u1" if array.dtype == np.uint8 else "<f8" if array.dtype.kind == "f" else "<i8"
        digest.update(f"{kind} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array, dtype=kind).data)
    return digest.hexdigest()


def _read(path: Path, stamp: Stamp) -> str:
    try:
        found = _folder_sum(path) if path.is_dir() else _file_sum(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({one_line(error)})") from error
    if stamp_of(path) != stamp:
        raise DataError(f"{path}: changed while it was read; run again")
    return found


def _recorded(path: Path, stamp: Stamp, cache: Path) -> str:
    key = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    record = cache / "digests" / f"{key}.json"
    with suppress(OSError, ValueError, LookupError, TypeError):
        known = json.loads(record.read_text())
        if (
            known["path"] == str(path)
            and known["stamp"] == list(stamp)
            and len(known["sha256"]) == 64
        ):
            return str(known["sha256"])
    found = _read(path, stamp)
    with suppress(OSError):  # a cache that cannot be written costs time only
        record.parent.mkdir(parents=True, exist_ok=True)
        content = json.dumps({"path": str(path), "stamp": stamp, "sha256": found}) + "\n"
        durable.write(record, content.encode())
    return found


def _file_sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _folder_sum(path: Path) -> str:
    digest = hashlib.sha256()
    for name in names_in_folder(path):
        line = json.dumps([*name, _file_sum(path.joinpath(*name))])
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def _stat(path: str | Path) -> os.stat_result:
    try:
        return os.stat(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file or folder") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({one_line(error)})") from error
