"""What went wrong, in the one line that a user needs: Hydra's errors, the machine's and ours."""

import re
import traceback
from pathlib import Path

from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException

from shine_exp.errors import OF_THE_MACHINE, UserError, chain, one_line
from shine_exp.runs.machine import is_out_of_memory

OURS = (  # messages in place of Hydra's
    (r"Could not override '(.+?)'\..*", r"\1: no such option; see shine-run --help"),
    (
        r"LexerNoViableAltException: (.+?) \^.*",
        r"""\1: put quotes around what has such letters: 'KEY="größe"'""",
    ),
    (
        r"Ambiguous value for argument '(.+?)' 1\..*",
        r"\1: more than one value; add -m to run each of them",
    ),
)


def user_error(error: BaseException) -> str | None:
    """One line for an error that the user can mend; None for a bug.

    Such an error is one of ours, of Hydra's, or of the machine's.
    """
    links = chain(error)
    for link in links:
        if isinstance(link, UserError):
            return str(link)
    for link in links:
        if isinstance(link, MissingConfigException) and link.options:
            options = ", ".join(option for option in link.options if not option.startswith("_"))
            return f"{str(link).splitlines()[0]}; there are: {options}"
        if isinstance(link, HydraException | OmegaConfBaseException) and not of_ours(link):
            message = " ".join(line.strip() for line in str(link).splitlines() if line.strip())
            return ours_for(message)
        if isinstance(link, OSError) and link.errno in OF_THE_MACHINE:
            then = "mend that, and the same command goes on from here"
            return f"{link.filename or 'a file'}: {link.strerror}; {then}"
        if is_out_of_memory(link):
            return f"out of memory ({one_line(link)}); take less data or a smaller model"
    if not while_composing(error):
        return None
    said = ours_for(one_line(error, at_most=400))
    return f"a YAML file is not UTF-8 ({said})" if isinstance(error, UnicodeDecodeError) else said


def ours_for(message: str) -> str:
    """What we say in place of a message of Hydra's."""
    return next(
        (found.expand(ours) for hydras, ours in OURS if (found := re.match(hydras, message))),
        message,
    )


def of_ours(error: BaseException) -> bool:
    """Whether Hydra met a bug in making one of our objects, whose values were checked before."""
    made = re.match(r"Error in call to target 'shine_exp\.", str(error))
    return made is not None and not isinstance(error.__cause__, ValueError | OverflowError)


def while_composing(error: BaseException) -> bool:
    """Whether Hydra raised this before it came to our code.

    Then it is about the command, or about a YAML file.
    """
    ours = str(Path(__file__).parent.parent)
    return not any(
        frame.filename.startswith(ours) for frame in traceback.extract_tb(error.__traceback__)[1:]
    )
