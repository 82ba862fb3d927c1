"""The rate of a trial's chain without the step, measured in the trial's process right after it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from prefetch_tuning.objectives.loop import steady_state
from prefetch_tuning.objectives.loop.steady_state import Clock, Taken
from prefetch_tuning.objectives.loop.training import TrainingFeed
from prefetch_tuning.objectives.loop.windows import mean_rate
from prefetch_tuning.objectives.measurement import Ceilings
from prefetch_tuning.objectives.spec import StopRule

# Few and short, because every confirmation round pays for them. On a host whose speed wanders
# within seconds, nine short looks show more than three longer ones.
PRODUCER_WINDOWS = 2
WINDOW_SHARE = 2 / 3
WAITED_IN_A_ROW = 2


class Alone:
    """A feed for `steady_state` that runs only one half: the batches or the step."""

    asynchronous = False  # nobody asks for its step times, so none need samples

    def __init__(
        self,
        examples_per_batch: int,
        next_batch: Callable[[], Any],
        step: Callable[[Any], None] | None = None,
        synchronise: Callable[[], None] | None = None,
    ) -> None:
        self._next_batch = next_batch
        self._step = step
        self._synchronise = synchronise
        # Nothing here asks how long one half waited for the other.
        self._taken = Taken(0.0, examples_per_batch)

    def advance(self) -> Taken:
        batch = self._next_batch()
        if self._step is not None:
            self._step(batch)
        return self._taken

    def synchronise(self) -> None:
        if self._synchronise is not None:
            self._synchronise()

    def choices(self) -> object:
        return None


class Taking(Alone):
    """The batches alone, with the number of examples in each: an epoch's last one may be short."""

    def __init__(self, take: Callable[[], int]) -> None:
        super().__init__(0, take)

    def advance(self) -> Taken:
        return Taken(0.0, self._next_batch())


def measure_ceilings(feed: TrainingFeed, rule: StopRule) -> Ceilings:
    """Continues with the iterator of a finished measurement, without the step.

    Args:
        feed: a started feed, from which the batches that were ready have been taken.
        rule: the measurement's rule; a few windows, somewhat shorter than its own, are measured.
    """
    begin = time.perf_counter()
    producer = steady_state.measure(
        Taking(feed.take_only),
        few_windows(rule, PRODUCER_WINDOWS),
        time.perf_counter,
        time.process_time,
    )
    return Ceilings(
        producer_only=mean_rate(producer.windows),
        measured_s=time.perf_counter() - begin,
    )


def drain(
    next_batch: Callable[[], Any], most: int, batch_s: float, clock: Clock, most_s: float = math.inf
) -> int:
    """Takes the batches that are ready, at most `most`; returns how many were.

    They were made while the step ran, so they would cost the measurement nothing. A batch that
    takes more than half of `batch_s` was waited for. Two of them in a row mean that no more are
    ready; a single one may be a moment in which the host ran something else.

    A chain that shares its cores with the step may make a batch in less than half of `batch_s`, so
    all of them seem to be ready. If `most_s` seconds pass without a wait, they count as such.
    """
    waited = taken = 0
    end = clock() + most_s
    while taken < most and waited < WAITED_IN_A_ROW:
        begin = clock()
        if begin >= end:
            return taken - waited if waited else most
        next_batch()
        taken += 1
        waited = waited + 1 if clock() - begin > batch_s / 2 else 0
    return taken - waited


def few_windows(rule: StopRule, count: int) -> StopRule:
    """A rule for `count` short windows after one that doesn't count: no buffer has to fill."""
    window_s = WINDOW_SHARE * rule.window_s
    changes = {"window_s": window_s, "startup_s": window_s, "min_windows": count}
    return rule.model_copy(update={**changes, "max_s": count * window_s})
