"""Ctrl-C and the signals that end a program: delayed while results are being written."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from prefetch_tuning.experiments.errors import EXIT_INTERRUPTED

ENDING = (signal.SIGTERM, signal.SIGHUP)


class Terminated(KeyboardInterrupt):
    """A signal other than Ctrl-C asked the program to end; it does the same bookkeeping.

    Attributes:
        exit_code: what a shell expects of a program that the signal ended.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


def interrupted_code(error: KeyboardInterrupt) -> int:
    """The exit code of a program that was interrupted."""
    return error.exit_code if isinstance(error, Terminated) else EXIT_INTERRUPTED


def end_like_ctrl_c() -> None:
    """Lets SIGTERM and SIGHUP end the program as Ctrl-C does, with nothing lost."""
    for number in ENDING:
        signal.signal(number, _end)


def _end(number: int, _: FrameType | None) -> None:
    raise Terminated(number)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delays these signals until the `with` block is done, so that a result is written in full.

    The second signal isn't delayed: whoever presses Ctrl-C twice wants to leave now.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set signal handlers, and only it receives Ctrl-C
        return
    came: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if len(came) > 1:
            _raise(number, frame)

    # What Python handles, as the program does. A signal that is ignored, or that ends a caller of
    # the Python API at once, stays as it is.
    before = {
        number: signal.getsignal(number)
        for number in (signal.SIGINT, *ENDING)
        if callable(signal.getsignal(number))
    }
    for number in before:
        signal.signal(number, remember)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if len(came) == 1:
            _raise(came[0], None)


def _raise(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    _end(number, frame)
