"""Compressed files, read as bounded streams: a small file that unpacks to no end is refused."""

import bz2
import gzip
import io
import lzma
import os
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Literal

from tqdm import tqdm

from shine_exp.errors import DataError

Kind = Literal["bz2", "xz", "gz", "plain"]

# Text and archives of images unpack to a few times their size, repetitive ones to a hundred times.
ALWAYS_ALLOWED = 1 << 25  # bytes unpacked
LARGEST_RATIO = 200  # of bytes unpacked to bytes on disk
BUFFER = 1 << 20  # bytes

UNREADABLE = (OSError, EOFError, lzma.LZMAError, zlib.error)  # what damaged compression raises


class Unpacked(io.RawIOBase):
    """The content of a file, front to back, with a bar in terminals.

    Raises `DataError` where it unpacks to too much.
    """

    def __init__(self, path: Path, kind: Kind) -> None:
        self.path = path
        self._packed = path.open("rb")
        self._content = _decompressor(self._packed, kind)
        self._allowed = ALWAYS_ALLOWED + LARGEST_RATIO * os.fstat(self._packed.fileno()).st_size
        self._n_read = 0
        self._bar = tqdm(
            desc=f"reading {path.name}",
            total=os.fstat(self._packed.fileno()).st_size,
            unit="B",
            unit_scale=True,
            delay=2,
            leave=False,
            disable=None,
        )

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        n: int = self._content.readinto(buffer)
        self._n_read += n
        self._bar.update(self._packed.tell() - self._bar.n)
        if self._n_read > self._allowed:
            raise DataError(
                f"{self.path}: unpacks to more than {self._allowed} bytes, "
                f"{LARGEST_RATIO} times its size; if that is meant, unpack it first"
            )
        return n

    def close(self) -> None:
        if not self.closed:
            self._bar.close()
            self._content.close()
            self._packed.close()
        super().close()


def unpacked(path: Path, kind: Kind) -> io.BufferedReader:
    """A stream of the content of a file."""
    return io.BufferedReader(Unpacked(path, kind), BUFFER)


def _decompressor(packed: BinaryIO, kind: Kind) -> Any:
    match kind:
        case "bz2":
            return bz2.open(packed)
        case "xz":
            return lzma.open(packed)
        case "gz":
            return gzip.open(packed)
        case "plain":
            return packed
