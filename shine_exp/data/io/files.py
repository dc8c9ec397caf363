"""Paths as a user writes them, and the parameters that take one."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias, get_args

from shine_exp.errors import DataError, one_line


@dataclass(frozen=True)
class Read:
    """Marks the annotation of a parameter that names a file or folder."""


InputFile: TypeAlias = Annotated[str, Read()]


def names_input_file(annotation: Any) -> bool:
    """Whether a parameter takes the name of a file or folder, perhaps among other values."""
    return isinstance(annotation, Read) or any(map(names_input_file, get_args(annotation)))


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
