"""Errors that a user can fix: the command line prints them as one line and exits with 2."""

from __future__ import annotations

import re

from prefetch_tuning.pipelines.printable import printable

EXIT_OK, EXIT_NO_RESULT, EXIT_MISUSE, EXIT_INTERRUPTED = 0, 1, 2, 130
# Higher codes are of a program that a signal ended.
ENDED_BY_SIGNAL = 128
# Exit codes of `rerun` only.
EXIT_OUTSIDE_NOISE, EXIT_OTHER_DATA = 3, 4
# Exit codes of `check` only.
EXIT_SLOWER, EXIT_UNDECIDED = 3, 4


# What an address may keep secret: user and password, and values of options in its query.
USER = re.compile(r"(?<=://)[^/\s'\"]+@")
QUERY = re.compile(
    r"(?P<name>[?&;][^=&\s]*(?:pass|pwd|token|secret|key|sig)[^=&\s]*=)[^&;\s'\"]+", re.IGNORECASE
)


def without_secrets(text: str) -> str:
    """The text with `***` in place of users, passwords and tokens in addresses."""
    return QUERY.sub(r"\g<name>***", USER.sub("***@", text))


class UsageError(ValueError):
    """An option has a value that cannot be used; the message quotes it, but never a password."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(without_secrets(message)))


class StoreError(UsageError):
    """The place for results cannot be used; the message names it and says what to do."""


class StudyError(UsageError):
    """A study or run cannot be used as asked; the message says why and what to do."""


def first_line(error: Exception) -> str:
    """The first line of a library's error, because our own messages have one line."""
    return str(error).strip().split("\n")[0]
