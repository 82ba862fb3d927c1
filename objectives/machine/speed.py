"""The host's own speed, timed around every trial: shared machines drift by up to 2x in an hour."""

from __future__ import annotations

import hashlib
import math
import time

import numpy as np

# Seconds that `fixed_work` took on the machine that defines index 1.0 (2 AMD EPYC cores, CPython
# 3.11). Only ratios matter: a trial with half the index ran on a host that was half as fast.
REFERENCE_S = 0.0045
REPEATS = 3
# A reading this recent also is the one before the next trial: it takes 12 ms.
FRESH_S = 1.0


def fixed_work() -> int:
    """A short piece of work like that of a pipeline: bytecode, native loops, memory traffic."""
    total = 0
    for number in range(30_000):
        total += number * number
    block = np.arange(100_000, dtype=np.float64)
    for _ in range(8):
        block = np.sqrt(block * 1.000_1 + 1.0)
    digest = hashlib.sha256(block.tobytes()).digest()
    return total + digest[0]


def time_fixed_work() -> float:
    """Seconds of one `fixed_work`: the median of a few."""
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        fixed_work()
        times.append(time.perf_counter() - begin)
    return sorted(times)[REPEATS // 2]


class HostSpeed:
    """Readings of the fixed work around one trial after another."""

    def __init__(self) -> None:
        self._last_s, self._read_at = 0.0, -math.inf

    def before(self) -> float:
        """Seconds of the fixed work before a trial: read now, or after the last trial."""
        if time.monotonic() - self._read_at > FRESH_S:
            return self.after()
        return self._last_s

    def after(self) -> float:
        """Seconds of the fixed work, read now."""
        self._last_s = time_fixed_work()
        self._read_at = time.monotonic()
        return self._last_s


def speed_index(before_s: float, after_s: float) -> float:
    """Speed relative to the reference machine, from the fixed work before and after a trial."""
    return 2.0 * REFERENCE_S / (before_s + after_s)
