"""Checks what stays on the device after a trial, and compares NVML's memory with TensorFlow's."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks.audit.judging import Line
from benchmarks.bench import say
from benchmarks.gpu_check.checks import check, holds, line
from benchmarks.gpu_check.ground import PLANTED, CheckError, Ground
from prefetch_tuning.objectives.spec import StopRule

TRIALS = 50
# The driver frees a process's memory a moment after the process has ended.
RELEASE_S = 2.0
# Anything less is a page table of the driver, not a process's memory.
LEFT_MIB = 4.0
# With memory growth, a step that holds 1 GiB leaves the rest of the device alone.
GROWN_SHARE = 0.5
# NVML counts pages of this size, and each of two readings may be a page short. On an H200 a peak of
# 1,024 MiB by TensorFlow was 1,022 MiB by NVML.
PAGE_MIB = 2.0
LARGE = StopRule(window_s=0.1, startup_s=0.3, min_windows=3, max_s=1.0)


@check("left")
def left(ground: Ground) -> list[Line]:
    """Compares the memory in use after each of many trials with that before the first."""
    before = used_mib(ground)
    most, seconds = 0.0, []
    for number in range(TRIALS):
        began = time.monotonic()
        ground.trial(f"{PLANTED}:Tiny", batch_size=8)
        seconds.append(time.monotonic() - began)
        most = max(most, after_release(ground, before) - before)
        if number % 10 == 9:
            say(f"  {number + 1} of {TRIALS} trials, at most {most:.0f} MiB left")
    each = sorted(seconds)[len(seconds) // 2]
    return [
        line(
            "nothing left on the device",
            f"{TRIALS} trials, each in its own process",
            f"at most {LEFT_MIB:g} MiB more than before, after each of them",
            f"at most {most:.1f} MiB; a trial takes {each:.1f} s",
            holds(most <= LEFT_MIB),
        )
    ]


def used_mib(ground: Ground) -> float:
    """The memory in use on the whole device, in MiB.

    Raises:
        CheckError: NVML doesn't report it.
    """
    used = ground.gpu.memory_used_mib()
    if used is None:
        raise CheckError("NVML doesn't report how much of the device's memory is in use")
    return used


def after_release(ground: Ground, before: float) -> float:
    """The memory in use, in MiB, once the driver has freed what ended or has had time to."""
    end = time.monotonic() + RELEASE_S
    while (used := used_mib(ground)) > before + LEFT_MIB and time.monotonic() < end:
        time.sleep(0.05)
    return used


@check("memory")
def memory(ground: Ground) -> list[Line]:
    """Compares NVML's growth over a process that has only a context with TensorFlow's own peak."""
    idle = used_mib(ground)
    with context_only():
        context = used_mib(ground) - idle
    after_release(ground, idle)
    trial = ground.trial(f"{PLANTED}:Hungry", batch_size=4, stop=LARGE)
    seen = trial.gpu.device_used_mib if trial.gpu else None
    peak, total = trial.device_peak_mib, ground.gpu.memory_total_mib
    if seen is None or peak is None or total is None:
        raise CheckError("the peak or the size of the device's memory is not known")
    grown = seen - context
    return [
        line(
            "memory on the device",
            f"a step that holds 1 GiB; a context alone takes {context:,.0f} MiB",
            "NVML's growth over the context is at least TensorFlow's peak, less two pages of "
            f"{PAGE_MIB:g} MiB, and at most twice that peak",
            f"{grown:,.0f} MiB by NVML, {peak:,.0f} MiB by TensorFlow: {grown / peak:.2f}x",
            holds(peak - 2 * PAGE_MIB <= grown <= 2.0 * peak),
        ),
        line(
            "memory grows as needed",
            f"the same step on a device of {total:,.0f} MiB",
            f"less than {GROWN_SHARE:.0%} of the device in use",
            f"{seen / total:.1%}",
            holds(seen < GROWN_SHARE * total),
        ),
    ]


@contextlib.contextmanager
def context_only() -> Iterator[None]:
    """Keeps a process with a context on the device that computes nothing, while the block runs.

    Raises:
        CheckError: the process ended before it had a context.
    """
    program = [sys.executable, "-m", "benchmarks.gpu_check.programs.hold_context"]
    with subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            raise CheckError("the process that only has a context ended early")
        try:
            yield
        finally:
            process.kill()
