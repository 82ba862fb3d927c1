"""Records when a generator's elements arrive, and finds its pauses. Pure: the clock is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict

# A trial of about a second sees shorter gaps.
LEAST_PAUSE_S = 0.2
# A gap is a pause only if it is this many times the mean gap; otherwise the generator is slow.
PAUSE_FACTOR = 10
# Elements after the start or a pause before the next gap can be a pause. So many are needed to know
# the mean gap, and a generator that is slow behind a full queue of its own doesn't pause.
LEAST_ELEMENTS = 10
# Arrival times that are kept. Beyond that, every second one is dropped.
MOST_TIMES = 4_096


class Pause(BaseModel):
    """A gap between two elements.

    Attributes:
        begin_s: when it began, in seconds since the first element.
        seconds: its length.
        elements: elements that had arrived by then, without the first one.
    """

    model_config = ConfigDict(frozen=True)

    begin_s: float
    seconds: float
    elements: int


class Arrivals(BaseModel):
    """When a bare generator's elements arrived, each requested as soon as the previous one did.

    Attributes:
        every: `times_s` has the arrival of every `every`-th element.
        times_s: seconds since the first element, ascending.
        pauses: the pauses, in order.
        seconds: length of the recording.
    """

    model_config = ConfigDict(frozen=True)

    every: int
    times_s: list[float]
    pauses: list[Pause]
    seconds: float


def record_arrivals(
    elements: Iterator[Any], most_s: float, most_pauses: int, clock: Callable[[], float]
) -> Arrivals:
    """Takes elements until there were `most_pauses` pauses, or for `most_s` seconds.

    The first element isn't timed, because the generator opens and loads what it needs for it.
    """
    next(elements)
    begin = last = clock()
    times: list[float] = []
    pauses: list[Pause] = []
    every, paused_s, last_pause = 1, 0.0, 0
    for count, _ in enumerate(elements):
        now = clock()
        gap = now - last
        if gap >= LEAST_PAUSE_S and count - last_pause >= LEAST_ELEMENTS:
            flowing_s = last - begin - paused_s
            if gap >= PAUSE_FACTOR * flowing_s / count:
                pauses.append(Pause(begin_s=last - begin, seconds=gap, elements=count))
                paused_s, last_pause = paused_s + gap, count
        last = now
        if (count + 1) % every == 0:
            times.append(now - begin)
            if len(times) == MOST_TIMES:
                times, every = times[1::2], 2 * every
        if now - begin >= most_s or len(pauses) >= most_pauses:
            break
    return Arrivals(every=every, times_s=times, pauses=pauses, seconds=last - begin)
