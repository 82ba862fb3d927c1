"""Ctrl-C and SIGTERM while a result is being written, with real signals."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from prefetch_tuning.experiments.host.interrupts import (
    ENDING,
    Terminated,
    end_like_ctrl_c,
    interrupted_code,
    uninterrupted,
)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Restores the handlers, which belong to pytest."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *ENDING)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    end_like_ctrl_c()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def write_while(written: list[str], *signals: int) -> None:
    """Writes after these signals came."""
    for number in signals:
        os.kill(os.getpid(), number)
    written.append("all of it")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_result_is_written_in_full_before_the_program_ends(number: int, code: int) -> None:
    written: list[str] = []
    with pytest.raises(KeyboardInterrupt) as error, uninterrupted():
        write_while(written, number)

    assert written == ["all of it"]
    assert interrupted_code(error.value) == code


def test_the_second_signal_ends_it_at_once() -> None:
    written: list[str] = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        write_while(written, signal.SIGINT, signal.SIGINT)

    assert written == []


def test_after_the_block_signals_act_as_before() -> None:
    with uninterrupted():
        pass
    with pytest.raises(Terminated):
        os.kill(os.getpid(), signal.SIGTERM)


def test_an_ignored_signal_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with uninterrupted():
        os.kill(os.getpid(), signal.SIGINT)

    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
