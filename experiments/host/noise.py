"""Detects what makes this host noisy, as far as the system tells, and says what to do about it."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from prefetch_tuning.pipelines.cores import usable_cores

# Above these, a measurement is disturbed: the load average, and the stolen share of CPU time.
LOAD_SHARE = 0.25
STEAL_SHARE = 0.02
GOVERNORS = Path("/sys/devices/system/cpu")


def host_warnings() -> list[str]:
    """One line for each disturbance that is present before anything is measured."""
    found = [_other_load(), _frequency_scaling(), _fewer_cores(os.cpu_count() or 1)]
    return [line for line in found if line]


def steal_warning(before: float, after: float, seconds: float) -> str | None:
    """A line if the hypervisor gave this machine's cores to others in the meantime.

    `before` and `after` are values of `stolen_s`, `seconds` apart.
    """
    share = (after - before) / (seconds * (os.cpu_count() or 1))
    if share < STEAL_SHARE:
        return None
    return (
        f"the hypervisor gave {share:.0%} of the processor to other machines: use a dedicated host "
        "or more rounds"
    )


def stolen_s() -> float:
    """Seconds that the hypervisor took from all cores since boot; 0 if it doesn't say."""
    return float(getattr(psutil.cpu_times(), "steal", 0.0))


def _other_load() -> str | None:
    load, _, _ = os.getloadavg()
    if load < LOAD_SHARE:
        return None
    return f"load {load:.1f} before anything is measured: stop other programs on this host"


def _frequency_scaling() -> str | None:
    governors = set()
    for path in GOVERNORS.glob("cpu[0-9]*/cpufreq/scaling_governor"):
        try:
            governors.add(path.read_text(encoding="ascii").strip())
        except OSError:
            continue
    slow = sorted(governors - {"performance"})
    if not slow:
        return None
    return (
        f"the cores change their frequency (governor {', '.join(slow)}): "
        "run cpupower frequency-set -g performance"
    )


def _fewer_cores(asked: int) -> str | None:
    usable = usable_cores()
    if usable >= asked:
        return None
    return (
        f"this process may use only {usable:g} of {asked} cores: raise the container's limit or "
        "widen the CPU affinity (taskset)"
    )
