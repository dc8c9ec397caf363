"""What a user can mend: raised where it is found, printed in one line by the command, exit code 2."""


class UserError(Exception):
    """A request that cannot be carried out. The message says what is wrong, where, and what to do."""


class DataError(UserError):
    """Data that is missing, malformed or unusable."""


class UnsupportedSolver(UserError):
    """An inverse method that needs something which the solver did not leave behind."""


class UnsupportedSystem(UserError):
    """An inverse method that does not apply to this linear system."""


def one_line(error: Exception, at_most: int = 160) -> str:
    """The type and message of an error, without line breaks."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= at_most else text[:at_most] + "…"
