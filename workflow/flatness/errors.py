"""Errors for the user: one line that says what is wrong, where, and what to do.

The command line prints them without a traceback and exits with their code.
"""


class UserError(Exception):
    """A mistake in what was asked: an option, a config value, a model."""

    exit_code = 2


class DataError(UserError):
    """A file that is missing, damaged or not the one that was published."""

    exit_code = 3


class NumericalError(UserError):
    """A number that cannot be right: it is not finite, or contradicts a theorem."""

    exit_code = 4
