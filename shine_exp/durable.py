"""Files that a crash leaves whole, and no link in a folder from elsewhere leads away from it."""

import contextlib
import errno
import os
import secrets
from io import FileIO
from pathlib import Path

NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)  # of file systems that sync no folders


def write(path: Path, content: bytes) -> None:
    """Replace a file in one step: a reader, even after a crash, finds the old or the new one."""
    replace(path, content).close()


def replace(path: Path, content: bytes) -> FileIO:
    """As `write`; the new file stays open, for what is to be appended.

    The order is what makes it last: content synced, renamed, folder synced.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    # Exclusive: the file is made here, and a link or file that stands under this name is an error.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
    file = FileIO(os.open(temporary, flags, 0o666), "w")
    try:
        append(file, content)
        os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except BaseException:
        file.close()
        temporary.unlink(missing_ok=True)
        raise
    return file


def append(file: FileIO, content: bytes) -> None:
    """All of it: a disk that is nearly full takes a part and says so only when asked again."""
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]


def read(path: Path) -> bytes:
    """The content of a regular file. Raises `OSError` for a link, a folder, a pipe."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with FileIO(descriptor) as file:
        return file.readall()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


def clear(folder: Path) -> None:
    """Remove what processes that were killed have left half written. Under the folder's lock."""
    for path in folder.glob("*.tmp"):
        with contextlib.suppress(OSError):  # a folder of this name is none of ours
            path.unlink()
