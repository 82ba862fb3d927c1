"""Samples the GPU while a trial runs: how busy it is, how fast its clock is, what throttles it."""

from __future__ import annotations

import threading
from statistics import fmean, median
from typing import Self

from prefetch_tuning.objectives.gpu_readings import GpuReadings
from prefetch_tuning.objectives.machine.gpu import Gpu

# A look asks the driver four questions, which takes about 0.1 ms in all.
LOOK_EVERY_S = 0.05
# A driver that doesn't answer must not hold up the study.
JOIN_TIMEOUT_S = 2.0


class Looks:
    """The samples between one `__enter__` and its `__exit__`."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._before_mib = gpu.memory_used_mib()
        self._used_mib: list[float] = []
        self._utilisation: list[float] = []
        self._clocks_mhz: list[float] = []
        self._events: set[str] = set()
        self._count = 0
        self.problem: str | None = None

    def look(self) -> bool:
        """Takes one sample; returns False if there is no point in taking another."""
        gpu = self._gpu
        found = (
            (self._utilisation, gpu.utilisation_percent()),
            (self._clocks_mhz, gpu.sm_clock_mhz()),
            (self._used_mib, gpu.memory_used_mib()),
        )
        events = gpu.clock_events()
        if events is None and all(value is None for _, value in found):
            self.problem = "the driver no longer answers" if self._count else None
            return False
        for values, value in found:
            if value is not None:
                values.append(value)
        self._events |= events or set()
        self._count += 1
        return True

    def readings(self) -> GpuReadings | None:
        """A summary of the samples; None if nothing was seen at all."""
        if not self._count:
            return None
        return GpuReadings(
            utilisation=fmean(self._utilisation) / 100.0 if self._utilisation else None,
            sm_clock_mhz=median(self._clocks_mhz) if self._clocks_mhz else None,
            device_used_mib=self._peak_mib(),
            clock_events=sorted(self._events),
            looks=self._count,
            problem=self.problem,
        )

    def _peak_mib(self) -> float | None:
        if self._before_mib is None or not self._used_mib:
            return None
        return max(max(self._used_mib) - self._before_mib, 0.0)


class GpuWatch:
    """Looks at an open `Gpu` every 50 ms for as long as a `with` block runs.

    It never raises, and an exception in the block passes through. It can be used repeatedly. A
    `Gpu` that isn't known costs nothing, not even a thread.

    Attributes:
        readings: readings of the latest block that ended; None if nothing is known.
    """

    def __init__(self, gpu: Gpu, every_s: float = LOOK_EVERY_S) -> None:
        self._gpu = gpu
        self._every_s = every_s
        self._end = threading.Event()
        self._looks: Looks | None = None
        self._thread: threading.Thread | None = None
        self.readings: GpuReadings | None = None

    def __enter__(self) -> Self:
        self.readings, self._looks, self._thread = None, None, None
        if self._gpu.is_known:
            # New objects each time: a thread that hangs in the driver keeps the ones it has.
            self._end, self._looks = threading.Event(), Looks(self._gpu)
            arguments = (self._looks, self._end, self._every_s)
            self._thread = threading.Thread(
                target=_look_until, args=arguments, name="gpu-watch", daemon=True
            )
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._looks is None or self._thread is None:
            return
        self._end.set()
        self._thread.join(JOIN_TIMEOUT_S)
        if self._thread.is_alive():
            self._looks.problem = f"the driver did not answer for {JOIN_TIMEOUT_S:g} s"
        self.readings = self._looks.readings()


def _look_until(looks: Looks, end: threading.Event, every_s: float) -> None:
    try:
        while looks.look() and not end.wait(every_s):
            pass
    except Exception as error:  # the samples taken until then remain valid
        looks.problem = f"{type(error).__name__}: {error}"
