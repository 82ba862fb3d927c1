"""What a process holds after each trial, and how fast it grows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import psutil
from scipy import stats

from prefetch_tuning.experiments.search.diagnosis import Diagnosis

KIB = 2**10
CONFIDENCE = 0.95
# The first trials fill caches: this share of them.
SETTLED_AFTER = 0.2


@dataclass(frozen=True)
class Reading:
    """Resident memory in KiB, open descriptors, threads, and processes below this one."""

    resident_kib: float
    descriptors: int
    threads: int
    processes: int

    @classmethod
    def now(cls) -> Reading:
        """Reads this process."""
        own = psutil.Process()
        return cls(
            resident_kib=own.memory_info().rss / KIB,
            descriptors=own.num_fds(),
            threads=own.num_threads(),
            processes=len(own.children(recursive=True)),
        )


@dataclass(frozen=True)
class Slope:
    """Growth per trial, with its 95% interval."""

    value: float
    low: float
    high: float


@dataclass
class Watch:
    """A progress display that shows nothing and reads the process after each trial."""

    readings: list[Reading] = field(default_factory=list)

    def steps(self, *_: object) -> Watch:
        return self

    def shown(self) -> AbstractContextManager[None]:
        return nullcontext()

    def advance(self, text: str, line: str | None = None) -> None:  # noqa: ARG002
        self.readings.append(Reading.now())

    def warn(self, text: str) -> None:
        """Failures are planted."""

    def say(self, text: str) -> None:
        """Nobody reads it."""

    def show_diagnosis(self, pipeline: str, diagnosis: Diagnosis) -> None:
        """Nobody reads it."""


def slope(values: Sequence[float]) -> Slope:
    """Growth per trial by least squares, once the caches are full."""
    settled = values[int(SETTLED_AFTER * len(values)) :]
    found = stats.linregress(range(len(settled)), settled)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(settled) - 2)) * float(found.stderr)
    value = float(found.slope)
    return Slope(value, value - half, value + half)
