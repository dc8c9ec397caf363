"""What a user can mend: raised where it is found, printed in a line by the command, exit code 2."""

import errno
import traceback
from collections.abc import Collection
from pathlib import Path

OF_THE_MACHINE = (  # what a file may meet whatever the program
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.EMFILE,
    errno.EIO,
)


class UserError(Exception):
    """A request that cannot be carried out.

    The message says what is wrong, where, and what to do.
    """


class DataError(UserError):
    """Data that is missing, malformed or unusable."""


class UnsupportedSolver(UserError):
    """An inverse method that needs something which the solver did not leave behind."""


class UnsupportedSystem(UserError):
    """An inverse method that does not apply to this linear system."""


class RunRefused(UserError):
    """A run of a sweep, which goes on without it. The command has said why when it happened."""


def one_line(error: BaseException, at_most: int = 160) -> str:
    """The type and message of an error, without line breaks."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= at_most else text[:at_most] + "…"


def chain(error: BaseException) -> list[BaseException]:
    """An error and its causes, the first cause last."""
    links = [error]
    while (cause := links[-1].__cause__) is not None:
        links.append(cause)
    return links


def raised_in(error: BaseException, files: Collection[str]) -> str | None:
    """Which line of these files raised it, itself or through a library.

    None where the package did.
    """
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename in files:
            return f"{frame.filename}, line {frame.lineno}"
        if Path(frame.filename).is_relative_to(Path(__file__).parent):
            return None
    return None
