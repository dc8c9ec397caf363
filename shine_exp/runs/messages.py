"""What went wrong, in the one line that a user needs: Hydra's errors, the machine's and ours."""

import re
import traceback
from collections.abc import Sequence
from pathlib import Path

from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from shine_exp.errors import (
    OF_THE_MACHINE,
    UserError,
    chain,
    did_you_mean,
    no_such_option,
    one_line,
)
from shine_exp.runs.machine import is_out_of_memory

OURS = (  # messages in place of Hydra's
    (
        r"LexerNoViableAltException: (.+?) \^.*",
        r"""\1: put quotes around what has such letters: 'KEY="größe"'""",
    ),
    (
        r"Ambiguous value for argument '(.+?)' 1\..*",
        r"\1: more than one value; add -m to run each of them",
    ),
)


def user_error(error: BaseException, arguments: Sequence[str] = ()) -> str | None:
    """One line for an error that the user can mend; None for a bug.

    Such an error is one of ours, of Hydra's, or of the machine's. The `arguments` of the command
    say which help would explain it.
    """
    links = chain(error)
    for link in links:
        if isinstance(link, UserError):
            return str(link)
    if isinstance(links[-1], ConfigKeyError | ConfigAttributeError) and any(
        str(link).startswith("Could not override ") for link in links
    ):
        return _no_such_key(links[-1], arguments)
    for link in links:
        if isinstance(link, MissingConfigException) and link.options:
            options = ", ".join(option for option in link.options if not option.startswith("_"))
            near = did_you_mean(str(link.missing_cfg_file).rpartition("/")[2], link.options)
            return f"{str(link).splitlines()[0]};{near} there are: {options}"
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


def _no_such_key(error: OmegaConfBaseException, arguments: Sequence[str]) -> str:
    """The message about an override of a key that its node does not have."""
    node, key, name = error.parent_node, str(error.full_key), str(error.key)
    from shine_exp.runs.validation import GIVEN, parameters  # pydantic: only after a mistake

    known = [str(one) for one in node or () if one != "hydra" and not str(one).startswith("_")]
    try:
        more = parameters("", node)
    except (UserError, TypeError):  # something else is wrong with the node
        more = {}
    if name in more and not (key == f"problem.{name}" and name in GIVEN):
        return f"{key}: its YAML file has no such key, so that it needs a plus: +{key}=…"
    shown = [one for one in arguments if one.startswith(("--config-dir=", "problem="))]
    return f"{no_such_option(key, name, known)}; see {' '.join(['shine-run', *shown, '--help'])}"


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
