"""Where this process's threads run, and whether the cores go to sleep meanwhile."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

# Spins only while a core has nothing else to do.
SPIN = "import os; os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\nwhile True: pass"
# A new interpreter spins after about 20 ms.
STARTED_S = 0.1


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Keeps every thread of this process on one core while the block runs."""
    before = os.sched_getaffinity(0)
    _bind({min(before)})
    try:
        yield
    finally:
        _bind(before)


@contextlib.contextmanager
def awake_cores() -> Iterator[None]:
    """Keeps the cores from sleeping while the block runs, without taking time from this process.

    A core that sleeps needs up to 50 µs to wake up. Something that waits is then slower alone than
    beside a busy pipeline.
    """
    command = [sys.executable, "-I", "-S", "-c", SPIN]
    spinning = [subprocess.Popen(command) for _ in os.sched_getaffinity(0)]
    try:
        time.sleep(STARTED_S)
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


def _bind(cores: set[int]) -> None:
    # Thread by thread: `sched_setaffinity(0, ...)` would bind only the calling one.
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.sched_setaffinity(int(thread.name), cores)
