"""More pipelines with a fault: after fifty good elements, each does one thing wrong."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

from tests.planted.pipelines import Faulty, Finite, Planted

# Bytes that a talkative generator writes.
TALK_BYTES = 100 * 2**20
LAST_WORDS = "that was all"


class Exiting(Faulty):
    """Leaves without unwinding, as a library in C may."""

    name = "exiting"

    def fail(self) -> None:
        os._exit(7)


class Deaf(Faulty):
    """Hangs in native code with the GIL held, and ignores SIGTERM."""

    name = "deaf"

    def fail(self) -> None:
        # Python lets only the main thread ignore a signal, and this is tf.data's.
        ctypes.CDLL(None).signal(signal.SIGTERM, signal.SIG_IGN)
        ctypes.PyDLL(None).sleep(3_600)


class Talkative(Faulty):
    """Writes 100 MiB to stdout, then some last words, and leaves."""

    name = "talkative"

    def fail(self) -> None:
        line = "x" * 1_023 + "\n"
        for _ in range(TALK_BYTES // len(line)):
            sys.stdout.write(line)
        print(LAST_WORDS, flush=True)
        os._exit(1)


class OpensFiles(Faulty):
    """Opens files until there are no descriptors left."""

    name = "opens_files"

    def __init__(self) -> None:
        self.held: list[int] = []

    def fail(self) -> None:
        while True:
            self.held.append(os.open(os.devnull, os.O_RDONLY))


class NotANumber(Planted):
    """A label that isn't a number, so the loss isn't one either."""

    name = "not_a_number"

    def generate(self, seed: int) -> Iterator[Any]:
        for index, (features, label) in enumerate(super().generate(seed)):
            yield features, label if index < 20 else float("nan")


class ThreeElements(Finite):
    """Ends after three elements, fewer than a batch."""

    name = "three_elements"

    def generate(self, seed: int) -> Iterator[Any]:
        yield from islice(super().generate(seed), 3)


class ChangesShape(Planted):
    """Its elements have another shape from the fiftieth on."""

    name = "changes_shape"

    def generate(self, seed: int) -> Iterator[Any]:
        for index, (features, label) in enumerate(super().generate(seed)):
            yield (features if index < 50 else np.zeros(5, np.float32)), label


class NeverBegins(Planted):
    """Blocks for ever on its first element."""

    name = "never_begins"

    def generate(self, seed: int) -> Iterator[Any]:
        time.sleep(3_600)
        yield from super().generate(seed)
