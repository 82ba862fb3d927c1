"""Errors that a person can act on: the command line prints them in one line and exits with 2."""

EXIT_OK, EXIT_NO_RESULT, EXIT_MISUSE, EXIT_INTERRUPTED = 0, 1, 2, 130
# Of a rerun.
EXIT_OUTSIDE_NOISE, EXIT_OTHER_DATA = 3, 4


class UsageError(ValueError):
    """An option has a value that cannot be used; the message quotes it."""


class StoreError(UsageError):
    """A place for results cannot be used; the message names it and says what to do."""


class StudyError(UsageError):
    """A study cannot be continued as asked; the message says why and what to do."""


def first_line(error: Exception) -> str:
    """The first line of a library's error, which is what fits into one of ours."""
    return str(error).strip().split("\n")[0]
