"""Tar archives, plain, .gz, .xz or .bz2, read as a stream: nothing is ever extracted."""

import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from shine_exp.errors import DataError, one_line

BLOCK = 512  # bytes; an archive ends with two blocks of zeros

Name = tuple[str, ...]  # the parts of a relative path


def tar_names(path: Path) -> list[Name]:
    """The files of an archive.

    Raises `DataError` where the archive cannot be read, is damaged or cut off, has a link, or a name leads out of it.
    """
    return [name for name, _, _ in _members(path)]


def tar_files(path: Path, wanted: Callable[[Name], bool], at_most: int) -> Iterator[tuple[Name, bytes]]:
    """Those files of an archive that are wanted, in its order.

    Raises `DataError` as `tar_names` does, and where a file has more than `at_most` bytes.
    """
    for name, tar, member in _members(path):
        if not wanted(name):
            continue
        if member.size > at_most:
            raise DataError(f"{path}: {shown(name)} has {member.size} bytes, more than {at_most}; take it out")
        with _readable(path):
            content = tar.extractfile(member)
            data = content.read() if content else b""
        yield name, data


def shown(name: Name) -> str:
    """A name for a message: in one line, whatever its characters."""
    return repr("/".join(name))[1:-1]


def _members(path: Path) -> Iterator[tuple[Name, tarfile.TarFile, tarfile.TarInfo]]:
    with _readable(path), _open(path) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            name = PurePosixPath(member.name)
            if name.is_absolute() or ".." in name.parts:
                raise DataError(f"{path}: {member.name!r} leads out of the archive; take one without such names")
            if member.issym() or member.islnk():
                raise DataError(f"{path}: {member.name!r} is a link, which is not followed; take an archive of files")
            if member.isreg():
                yield name.parts, tar, member
        if tar.fileobj is None or tar.fileobj.read(BLOCK) != bytes(BLOCK):
            raise tarfile.ReadError("cut off, or a broken header")  # tarfile takes either for the end
        while stream.read(1 << 20):  # to the checksum of a compressed file
            pass


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise DataError(
            f"{path}: cannot be read as a tar archive (plain, .gz, .xz or .bz2), or is damaged ({one_line(error)}); "
            "take a fresh copy"
        ) from error


def _open(path: Path) -> io.BufferedIOBase:
    """The archive without its compression, which its first bytes tell."""
    with path.open("rb") as stream:
        start = stream.read(6)
    if start.startswith(b"\x1f\x8b"):
        return gzip.open(path)
    if start.startswith(b"\xfd7zXZ\0"):
        return lzma.open(path)
    if start.startswith(b"BZh"):
        return bz2.open(path)
    return path.open("rb")
