"""Paths as a user writes them."""

import os
from pathlib import Path

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
