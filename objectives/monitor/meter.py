"""Times how long steps wait for their batches. Pure: it is given its clock."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass

from prefetch_tuning.objectives.loop.steady_state import SAMPLE_EVERY, Clock

# Waits per epoch that are kept for their median.
KEPT_WAITS = 1_000
# Fewer of them don't show what is usual.
FEW = 3
# On a device, the steps before the first one that is timed.
FIRST_AFTER = 5


@dataclass
class Tally:
    """Sums over steps.

    Attributes:
        wait_s: seconds that the timed steps waited for data.
        timed_s: seconds that the timed steps took, waits included.
        examples: examples of all steps.
        steps: all steps.
        wall_s: seconds of all steps.
    """

    wait_s: float = 0.0
    timed_s: float = 0.0
    examples: int = 0
    steps: int = 0
    wall_s: float = 0.0

    @property
    def wait_fraction(self) -> float:
        """Share of the time in which the step waits for data; NaN without a timed step."""
        return min(self.wait_s / self.timed_s, 1.0) if self.timed_s > 0.0 else math.nan

    @property
    def examples_per_s(self) -> float:
        """Rate of all steps; NaN without one."""
        return self.examples / self.wall_s if self.wall_s > 0.0 else math.nan

    def add(self, other: Tally) -> None:
        """Adds the sums of later steps."""
        self.wait_s += other.wait_s
        self.timed_s += other.timed_s
        self.examples += other.examples
        self.steps += other.steps
        self.wall_s += other.wall_s


class Meter:
    """Times the steps of a training, one epoch after another.

    Every step is timed if the host runs it. If a device runs the steps behind the host, one
    execution in `SAMPLE_EVERY` is timed, with the device idle before and after it: the host may
    wait for a batch while the device still has work.

    Attributes:
        epoch: what was measured since `begin_epoch`.
        first_wait_s: what the epoch's first step waited, or the mean of its first execution's;
            None before it.
    """

    def __init__(self, clock: Clock, synchronise: Callable[[], None] | None = None) -> None:
        """`synchronise` waits for the device; None if the host runs the steps."""
        self._clock, self._synchronise = clock, synchronise
        # When the step that runs now began; None between steps.
        self.began_at: float | None = None
        self._waits: list[float] = []
        # The first steps find buffers that are still empty, or that filled while the step compiled.
        self._since = SAMPLE_EVERY - FIRST_AFTER
        self._ended_at: float | None = None
        self.first_wait_s: float | None = None
        self.begin_epoch()

    def begin_epoch(self) -> None:
        self.epoch, self.first_wait_s = Tally(), None
        self._waits.clear()
        self._ended_at = None

    def begin(self) -> None:
        """A step is about to take its batch."""
        if self._ended_at is None:
            self._ended_at = self._clock()
        if self._samples:
            self._synchronise_device()
        self._begin = self.began_at = self._clock()

    def end(self, wait_s: float, examples: int, steps: int = 1, *, counts: bool = True) -> Tally:
        """A step, or several in one execution, ended after waiting `wait_s` in all.

        Args:
            wait_s: seconds that they waited for their batches.
            examples: examples of their batches.
            steps: how many they were.
            counts: False for an execution that also compiled something.

        Returns:
            What this execution adds to the epoch.
        """
        timed = self._samples or self._synchronise is None
        if self._samples:
            self._synchronise_device()
        if self.first_wait_s is None:
            self.first_wait_s = wait_s / steps
        last, now = self._ended_at, self._clock()
        self._ended_at, self.began_at = now, None
        if not counts:
            return Tally()
        self._since = 1 if self._samples else self._since + 1
        found = Tally(examples=examples, steps=steps, wall_s=now - (now if last is None else last))
        if timed:
            # What happens between two steps, like other callbacks, is part of the training's time.
            # Around a sample, it is the time of waiting for the device.
            found.timed_s = found.wall_s if self._synchronise is None else now - self._begin
            found.wait_s = wait_s
            if len(self._waits) < KEPT_WAITS:
                self._waits.append(wait_s / steps)
        self.epoch.add(found)
        return found

    @property
    def _samples(self) -> bool:
        """Whether this execution is one that is timed beside an idle device."""
        return self._synchronise is not None and self._since >= SAMPLE_EVERY

    def _synchronise_device(self) -> None:
        if self._synchronise is not None:
            self._synchronise()

    @property
    def usual_wait_s(self) -> float | None:
        """Median wait of the epoch's steps after the first; None if too few were timed."""
        # On a device, the first step isn't among those that are timed.
        later = self._waits[1:] if self._synchronise is None else self._waits
        return statistics.median(later) if len(later) >= FEW else None
