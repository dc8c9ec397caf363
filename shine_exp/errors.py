"""What a user can mend: raised where it is found, printed in one line by the command, exit code 2."""


class UserError(Exception):
    """A request that cannot be carried out. The message says what is wrong, where, and what to do."""


class DataError(UserError):
    """Data that is missing, malformed or unusable."""


class UnsupportedSolver(UserError):
    """An inverse method that needs something which the solver did not leave behind."""


class UnsupportedSystem(UserError):
    """An inverse method that does not apply to this linear system."""
