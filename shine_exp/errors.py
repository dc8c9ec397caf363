"""What a user can mend: raised where it is found, printed in a line by the command, exit code 2."""

import difflib
import errno
import re
import traceback
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from types import CodeType

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
# Python's message about a call that does not fit a function's parameters.
WRONG_CALL = re.compile(r"([\w.<>]+)\(\) (?:takes|missing|got) ")


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


class EndedElsewhere(Exception):
    """Another process of the same run has ended it, and says why; `code` is its exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"another process of this run has ended it, with exit code {code}")
        self.code = code


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


def of_the_users(error: BaseException, files: Iterable[str]) -> str | None:
    """An error in one line with its place in these files, of the first cause that has one there.

    None where none of them has a part in it.
    """
    known = set(files)
    for link in reversed(chain(error)):
        if (place := raised_in(link, known)) is not None:
            return f"{place}: {one_line(link)}"
    return None


def raised_in(error: BaseException, files: Collection[str]) -> str | None:
    """Which line of these files an error comes from, itself or through what that line calls.

    A call with the wrong arguments never enters the function that it is of: then it is the line
    of its definition. None where the error has passed through none of the files.
    """
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if frame.filename in files]
    if theirs and theirs[-1] is frames[-1]:
        return f"{theirs[-1].filename}, line {theirs[-1].lineno}"
    if isinstance(error, TypeError) and (named := WRONG_CALL.match(str(error))):
        for file in sorted(files):
            if (line := _line_of(file, named[1])) is not None:
                return f"{file}, line {line}"
    return f"{theirs[-1].filename}, line {theirs[-1].lineno}" if theirs else None


def _line_of(file: str, name: str) -> int | None:
    """Where a file defines the function of this qualified name, if it defines only one."""
    try:
        code = [compile(Path(file).read_bytes(), file, "exec")]
    except (OSError, SyntaxError, ValueError):
        return None
    lines = []
    for one in code:  # grows by what is defined within
        code += [constant for constant in one.co_consts if isinstance(constant, CodeType)]
        if one.co_qualname == name:
            lines.append(one.co_firstlineno)
    return lines[0] if len(lines) == 1 else None


def no_such_option(key: str, name: str, known: Sequence[str]) -> str:
    """The message about a key whose last part no node has, with the one that may be meant."""
    there_are = f"there are: {', '.join(known)}" if known else "there is none"
    return f"{key}: no such option;{did_you_mean(name, known)} {there_are}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """\" did you mean NAME?", after a name that is not known; empty where none is like it."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" did you mean {near[0]}?" if near else ""
