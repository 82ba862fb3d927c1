"""Finds the prefetch buffer that bridges a generator's pauses, from recorded arrivals. Pure.

A trial of about a second can't see a generator that pauses for 1 s every 5 s. So the arrivals of
its elements are recorded once, and replayed through buffers of different sizes. Only buffers near
the answer are then measured, in trials that last from one pause to the next.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from statistics import fmean
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from prefetch_tuning.objectives.arrivals import Arrivals
from prefetch_tuning.objectives.spec import StopRule

# A single long gap may come from the host.
LEAST_PAUSES = 2
# Ordinary trials and the costs of the stages include pauses that are closer together.
LEAST_APART_S = 1.0
# No trial lasts for pauses that are further apart.
MOST_APART_S = 20.0
# Buffers to replay, in batches.
BUFFERS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
# A larger buffer matters if it makes this one's rate so many times higher. Two stalls of the host
# during a recording make less of a difference.
ORDINARY, MATTERS = 4, 1.03
# The smallest buffer that reaches this share of the best one's rate bridges the pauses.
BRIDGES = 0.99
# With more batches per recording, a pause is too many steps long for any of the buffers.
MOST_BATCHES = 200_000
# Windows from one pause to the next. Counting begins with a window, half of them after a pause.
WINDOWS = 8


class Pauses(BaseModel):
    """The pauses of a generator, and the rate with each buffer.

    Attributes:
        mean_s: mean length of a pause, in seconds.
        apart_s: seconds from the beginning of a pause to that of the next.
        elements_apart: elements from one pause to the next.
        flowing_share: share of the time in which the generator doesn't pause.
        step_s: seconds of a step, with the copy of its batch to the device, by batch size.
        replayed: examples/s by batch size and prefetch buffer.
    """

    model_config = ConfigDict(frozen=True)

    mean_s: float
    apart_s: float
    elements_apart: float
    flowing_share: float
    step_s: dict[int, float]
    replayed: dict[int, dict[int, float]]

    @property
    def bridging(self) -> dict[int, int]:
        """The smallest buffer that bridges the pauses, by batch size, where it matters."""
        return {
            size: _least(rates)
            for size, rates in self.replayed.items()
            if max(rates.values()) >= MATTERS * rates[ORDINARY]
            and self.counted_s(size) <= MOST_APART_S
        }

    @property
    def in_words(self) -> str:
        """The pauses, and the buffers that bridge them."""
        words = f"pauses for {self.mean_s:.1f} s about every {self.apart_s:.1f} s"
        needed = [f"{buffer} batches of {size}" for size, buffer in self.bridging.items()]
        if needed:
            return f"{words}; the smallest prefetch buffer that bridges that is {_either(needed)}"
        if self.apart_s > MOST_APART_S:
            return f"{words}, too rarely for a trial to see it"
        return f"{words}; a larger prefetch buffer doesn't help"

    def counted_s(self, batch_size: int) -> float:
        """Seconds between pauses in training with a small buffer, where the step adds to them."""
        stepping_s = self.elements_apart * self.step_s.get(batch_size, 0.0) / batch_size
        return max(self.apart_s, stepping_s + self.mean_s)

    def stop_rule(self, base: StopRule, batch_size: int) -> StopRule:
        """The rule for a trial that lasts from one pause to the next.

        Counting begins and ends in the middle between two pauses, so it includes one of them. That
        also applies to AUTOTUNE, whose warm-up ends after two and a half periods or later.
        """
        counted_s = self.counted_s(batch_size)
        if batch_size not in self.bridging or 3 * counted_s <= base.max_s:
            return base
        periods = max(2, math.ceil(base.warmup_max_s / counted_s)) + 0.5
        longer = {
            "window_s": counted_s / WINDOWS,
            "startup_s": counted_s / 2,
            "min_windows": WINDOWS,
            "max_s": counted_s,
            "warmup_max_s": periods * counted_s,
        }
        return base.model_copy(update=longer)


def find_pauses(
    arrivals: Arrivals, step_s: Mapping[int, float], other_s: float = 0.0
) -> Pauses | None:
    """The pauses in a recording; None if there are none that ordinary trials miss.

    Args:
        arrivals: the recorded arrivals.
        step_s: seconds of a step by batch size.
        other_s: seconds per example of the stages between the generator and the step.
    """
    pauses = arrivals.pauses
    if len(pauses) < LEAST_PAUSES:
        return None
    whole_s = pauses[-1].begin_s - pauses[0].begin_s
    apart_s = whole_s / (len(pauses) - 1)
    if apart_s < LEAST_APART_S:
        return None
    # The last pause is outside of the whole periods between the first and the last one.
    paused_s = sum(pause.seconds for pause in pauses[:-1])
    return Pauses(
        mean_s=fmean(pause.seconds for pause in pauses),
        apart_s=apart_s,
        elements_apart=fmean(
            after.elements - before.elements for before, after in pairwise(pauses)
        ),
        flowing_share=1.0 - paused_s / whole_s,
        step_s=dict(step_s),
        replayed={size: _replays(arrivals, size, step_s[size], other_s) for size in step_s},
    )


def replay(making_s: Any, step_s: float, buffer: int) -> float:
    """Seconds until the last of these batches was used.

    The producer begins a batch as soon as fewer than `buffer` others are ready. The step takes the
    next batch as soon as it is ready and the previous step has ended.

    Args:
        making_s: seconds that making each batch takes, as an array of shape (batches,).
        step_s: seconds of a step.
        buffer: batches that the prefetch buffer holds.
    """
    made_at = used_at = 0.0
    taken_at: list[float] = []
    for number, seconds in enumerate(making_s.tolist()):
        room_at = taken_at[number - buffer] if number >= buffer else 0.0
        made_at = max(made_at, room_at) + seconds
        taken_at.append(max(made_at, used_at))
        used_at = taken_at[-1] + step_s
    return used_at


def near(buffer: int) -> tuple[int, int]:
    """The smallest and the largest buffer to measure if `buffer` bridges the pauses."""
    return max(buffer // 2, 1), 2 * buffer


def _replays(
    arrivals: Arrivals, batch_size: int, step_s: float, other_s: float
) -> dict[int, float]:
    """Examples/s with each buffer."""
    arrived = {0: 0.0}
    for index, seconds in enumerate(arrivals.times_s, start=1):
        arrived[index * arrivals.every] = seconds
    # Where not every element was kept, a pause would otherwise be spread over the missing ones.
    for pause in arrivals.pauses:
        arrived[pause.elements] = pause.begin_s
        arrived[pause.elements + 1] = pause.begin_s + pause.seconds
    numbers = sorted(arrived)
    count = numbers[-1] // batch_size
    if not 0 < count <= MOST_BATCHES:
        return dict.fromkeys(BUFFERS, batch_size / step_s)
    times = [arrived[number] for number in numbers]
    whole = np.interp(batch_size * np.arange(1, count + 1), numbers, times)
    making_s = np.diff(whole, prepend=0.0) + other_s * batch_size
    return {buffer: batch_size * count / replay(making_s, step_s, buffer) for buffer in BUFFERS}


def _least(rates: Mapping[int, float]) -> int:
    best = max(rates.values())
    return min(buffer for buffer, rate in rates.items() if rate >= BRIDGES * best)


def _either(needed: list[str]) -> str:
    return needed[0] if len(needed) == 1 else f"{', '.join(needed[:-1])} or {needed[-1]}"
