"""Paths as a user writes them, and small files that appear whole or not at all."""

import os
from pathlib import Path
from uuid import uuid4

from shine_exp.errors import DataError, one_line


def absolute(path: str | Path) -> Path:
    """From the working folder, ~ expanded, links resolved. Raises `DataError` where there can be no such path."""
    try:
        resolved = Path(path).expanduser().resolve()
        os.stat(resolved)
    except (FileNotFoundError, NotADirectoryError):
        return resolved
    except (OSError, ValueError, RuntimeError) as error:  # of a loop of links, a NUL, a home of nobody's
        raise DataError(f"{str(path)!r}: cannot be read ({one_line(error)})") from error
    return resolved


def write_whole(path: Path, text: str) -> None:
    """Write beside `path` and rename: a reader sees the old text or the new. A link is replaced, not followed."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with temporary.open("x", encoding="utf-8") as file:  # "x": fails where the name is taken, also by a link
            file.write(text)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
