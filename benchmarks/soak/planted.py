"""A pipeline that fails in about one trial of five, in one of six ways.

The target is `benchmarks.soak.planted:Unsteady`, from the root of a checkout.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.audit.planted import Cheap

FAILS, AFTER = 5, 40
# A trial seeds `random` with the study's seed, so all trials would decide alike.
CHANCE = random.SystemRandom()


class Unsteady(Cheap):
    """Rows of four numbers; a trial's process decides by chance whether and how it fails."""

    name = "unsteady"

    def generate(self, seed: int) -> Iterator[Any]:
        fail = CHANCE.choice(FAULTS) if CHANCE.random() < 1 / FAILS else None
        for number, element in enumerate(super().generate(seed)):
            if fail is not None and number == AFTER:
                fail()
            yield element


def _raise() -> None:
    raise ValueError("a row that cannot be read")


def _crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _exit() -> None:
    os._exit(3)


def _hang() -> None:
    time.sleep(3_600)


def _talk() -> None:
    for _ in range(1_000):
        print("x" * 4_000)
    raise ValueError("a row with a lot to say")


def _leave_a_child() -> None:
    if os.fork() == 0:
        time.sleep(3_600)
    raise ValueError("a row whose reader was left behind")


FAULTS: tuple[Callable[[], None], ...] = (_raise, _crash, _exit, _hang, _talk, _leave_a_child)
