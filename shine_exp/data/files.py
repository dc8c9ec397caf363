"""Paths as a user writes them, and small files that appear whole or not at all."""

import os
from pathlib import Path
from uuid import uuid4

from shine_exp.errors import DataError, one_line


def absolute(path: str | Path) -> Path:
    """From the working folder, with ~ expanded. Raises `DataError` where that cannot be a path."""
    try:
        whole = Path(path).expanduser().absolute()
        os.stat(whole)
    except (FileNotFoundError, NotADirectoryError):
        return whole
    except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL, the home of nobody
        raise DataError(f"{str(path)!r}: cannot be read ({one_line(error)})") from error
    return whole


def write_whole(path: Path, text: str) -> None:
    """Write beside `path` and rename: a reader sees the old text or the new. No link is followed."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with temporary.open("x", encoding="utf-8") as file:  # fails where even a link has the name
            file.write(text)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
