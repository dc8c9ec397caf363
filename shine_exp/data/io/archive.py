"""Tar archives, plain, .gz, .xz or .bz2, read as a stream: nothing is ever extracted."""

import io
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from shine_exp.data.io.compressed import UNREADABLE, unpacked
from shine_exp.data.io.image_names import Name, shown
from shine_exp.errors import DataError, one_line

BLOCK = 512  # bytes; an archive ends with two blocks of zeros

LARGEST_HEADER = 1 << 16  # bytes of what stands before a member: a long name, attributes
MOST_GLOBAL = 16  # attributes of all members that follow
HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


def tar_names(path: Path) -> list[Name]:
    """The files of an archive.

    Raises `DataError` where the archive cannot be read, is damaged or cut off, has a link, or a
    name leads out of it.
    """
    return [name for name, _, _ in _members(path)]


def tar_files(
    path: Path, wanted: Callable[[Name], bool], at_most: int
) -> Iterator[tuple[Name, bytes]]:
    """Those files of an archive that are wanted, in its order.

    Raises `DataError` as `tar_names` does, and where a file has more than `at_most` bytes.
    """
    for name, tar, member in _members(path):
        if not wanted(name):
            continue
        if member.size > at_most:
            raise DataError(
                f"{path}: {shown(name)} has {member.size} bytes, more than {at_most}; take it out"
            )
        with _readable(path):
            content = tar.extractfile(member)
            data = content.read() if content else b""
        yield name, data


class _Member(tarfile.TarInfo):
    """Refuses headers that take memory without bound, before they are read."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in HEADERS and self.size > LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        if self.type == tarfile.XGLTYPE and len(tar.pax_headers) > MOST_GLOBAL:
            raise tarfile.ReadError(f"more than {MOST_GLOBAL} global attributes")
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError("a sparse file")
        member: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc]
        return member

    def _proc_gnusparse_10(self, *_: object) -> None:
        raise tarfile.ReadError("a sparse file")


def _members(path: Path) -> Iterator[tuple[Name, tarfile.TarFile, tarfile.TarInfo]]:
    with (
        _readable(path),
        _open(path) as stream,
        tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as tar,
    ):
        for member in tar:
            name = PurePosixPath(member.name)
            if name.is_absolute() or ".." in name.parts:
                raise DataError(
                    f"{path}: {member.name!r} leads out of the archive; take one without such names"
                )
            if member.issym() or member.islnk():
                raise DataError(
                    f"{path}: {member.name!r} is a link, which is not followed; "
                    "take an archive of files"
                )
            if member.isreg():
                yield name.parts, tar, member
        if tar.fileobj is None or tar.fileobj.read(BLOCK) != bytes(BLOCK):
            # tarfile takes either for the end of the archive.
            raise tarfile.ReadError("cut off, or a broken header")
        while stream.read(1 << 20):  # to the checksum of a compressed file
            pass


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, RecursionError, ValueError, *UNREADABLE) as error:
        raise DataError(
            f"{path}: cannot be read as a tar archive (plain, .gz, .xz or .bz2), "
            f"or is damaged ({one_line(error)}); take a fresh copy"
        ) from error


def _open(path: Path) -> io.BufferedReader:
    """The archive without its compression, which its first bytes tell."""
    with path.open("rb") as stream:
        start = stream.read(6)
    if start.startswith(b"\x1f\x8b"):
        return unpacked(path, "gz")
    if start.startswith(b"\xfd7zXZ\0"):
        return unpacked(path, "xz")
    if start.startswith(b"BZh"):
        return unpacked(path, "bz2")
    return unpacked(path, "plain")
