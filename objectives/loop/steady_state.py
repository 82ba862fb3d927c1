"""Counts a stream of training steps in windows. Pure: the clock is an argument.

In the order in which a trial meets them, the parts skip the start-up, count windows of fixed
duration, restart the count while the rate drifts, and stop when the interval is tight or the time
is used up.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from prefetch_tuning.objectives.loop.warm_up import (
    LEAST_BATCHES,
    UNREADABLE,
    rate_settled,
    settled,
)
from prefetch_tuning.objectives.loop.windows import drifts, half_width_share, prunable
from prefetch_tuning.objectives.measurement import Stopped, Window
from prefetch_tuning.objectives.spec import StopRule

Clock = Callable[[], float]

# On a device that runs steps behind the host, one step in this many is timed: before and after it
# the host waits for the device. More of them would keep the two from working side by side.
SAMPLE_EVERY = 50
# Fewest steps per window on such a device, unless the window lasts this long. At its end the host
# waits for all of its steps, so windows of a step or two would keep host and device from working
# side by side.
LEAST_STEPS, LONG_S = 5, 1.0


class Taken(NamedTuple):
    """Batches that steps consumed, one each: the total wait for them and their total examples.

    `steps` is above one if a model runs several in one execution, whose times can't be told apart.
    """

    wait_s: float
    examples: int
    steps: int = 1


class Feed(Protocol):
    """What is timed: steps that each take one batch."""

    @property
    def asynchronous(self) -> bool:
        """Whether `advance` returns while steps still run, as on a GPU."""

    def advance(self) -> Taken:
        """Takes a batch and starts one step, or a few of them in one execution."""

    def synchronise(self) -> None:
        """Returns when every step that was started has run."""

    def choices(self) -> object:
        """What AUTOTUNE has chosen so far; `UNREADABLE` if it can't be read, None without it."""


@dataclass
class SteadyState:
    """Counted windows and how the count went; all times are in seconds.

    `steps` is the number of steps in the windows. `step_s` has a time for each of them, or for one
    in `SAMPLE_EVERY` on an asynchronous device, where only dispatching the others could be timed.
    The steps of one execution get equal shares of its time.
    """

    windows: list[Window]
    steps: int
    step_s: list[float]
    startup_s: float
    stopped: Stopped
    settled: bool
    cpu_s: float

    @property
    def seconds(self) -> float:
        """Seconds that measuring took, including the start-up."""
        return self.startup_s + sum(window.seconds for window in self.windows)


@dataclass
class _Count:
    """Windows counted since the last restart, with each window's steps, step times and CPU time."""

    windows: list[Window] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    step_s: list[list[float]] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    since_sample: int = SAMPLE_EVERY

    @property
    def seconds(self) -> float:
        return sum(window.seconds for window in self.windows)

    def drop_first(self, count: int) -> float:
        """Drops the first windows; returns their seconds, which count as start-up."""
        dropped = sum(window.seconds for window in self.windows[:count])
        del self.windows[:count], self.steps[:count], self.step_s[:count], self.cpu[:count]
        self.since_sample = SAMPLE_EVERY  # the only sample may have been among them
        return dropped


def measure(
    feed: Feed,
    rule: StopRule,
    clock: Clock,
    cpu_clock: Clock,
    best_examples_per_s: float | None = None,
) -> SteadyState:
    """Runs `feed` until its rate is known.

    Args:
        feed: batches and steps; consuming starts at once, so that no batches pile up.
        rule: when to start counting and when to stop.
        clock: seconds, monotonic.
        cpu_clock: CPU seconds of the process tree.
        best_examples_per_s: rate to prune against; None for no pruning.
    """
    begin = clock()
    end = _start_up(feed, rule, clock, begin)
    startup_s = end - begin
    count = _Count()
    # Waiting for drift to end may cost as much again as the measurement itself, but not more: on a
    # noisy host a strict rule would never end. Drift that remains then is marked, not hidden.
    drift_budget_s = rule.max_s
    while True:
        end = _count_window(feed, rule, clock, cpu_clock, count, end)
        if len(count.windows) < rule.min_windows:
            continue
        if prunable(count.windows, best_examples_per_s, rule):
            return _finish(count, startup_s, "pruned")
        tight = half_width_share(count.windows) <= rule.target_half_width
        if not tight and count.seconds < rule.max_s:
            continue
        if drifts(count.windows) and drift_budget_s > 0:
            dropped_s = count.drop_first(math.ceil(len(count.windows) / 3))
            startup_s += dropped_s
            drift_budget_s -= dropped_s
            continue
        return _finish(count, startup_s, "precise" if tight else "time")


def _start_up(feed: Feed, rule: StopRule, clock: Clock, begin: float) -> float:
    """Consumes batches from `begin` until the start-up is over; returns the time of its end.

    The start-up begins with the first batch. Until then nothing has run: a shuffle that fills for
    3 s would otherwise be AUTOTUNE's whole warm-up.
    """
    batches = feed.advance().steps
    feed.synchronise()
    begin = end = clock()
    history: list[tuple[float, object]] = []
    warm_up = _Count()
    while True:
        end = _count_window(feed, rule, clock, clock, warm_up, end)
        batches += warm_up.steps[-1]
        now = end - begin
        choice = feed.choices()
        if choice is None:
            if now >= rule.startup_s:
                return end
            continue
        history.append((now, choice))
        # AUTOTUNE gets at least a fifth of the longest warm-up. By then eight doubling intervals
        # (10 ms, 20 ms, ...) have passed, and choices that were stable then still were after 5 s.
        enough = (
            now >= rule.warmup_max_s / 5
            and batches >= LEAST_BATCHES
            and (choice == UNREADABLE or settled(history, now))
            and rate_settled(warm_up.windows, now)
        )
        if enough or now >= rule.warmup_max_s:
            return end


def _count_window(
    feed: Feed, rule: StopRule, clock: Clock, cpu_clock: Clock, count: _Count, begin: float
) -> float:
    """Runs steps until the window is full; returns the time of its end.

    A window begins where the last one ended. So no batch is produced outside all windows, and the
    calculations between two windows aren't free.
    """
    cpu_begin = cpu_clock()
    step_begin = begin
    wait_s = 0.0
    examples = steps = 0
    step_s: list[float] = []
    least = LEAST_STEPS if feed.asynchronous else 1
    executions = 0
    # A window has at least one step, and ends with the first step that passes its length.
    while not executions or step_begin - begin < (rule.window_s if executions >= least else LONG_S):
        timed = not feed.asynchronous or count.since_sample >= SAMPLE_EVERY
        if timed and feed.asynchronous:
            feed.synchronise()
            step_begin = clock()
            count.since_sample = 0
        taken = feed.advance()
        if timed and feed.asynchronous:
            feed.synchronise()
        step_end = clock()
        wait_s += taken.wait_s
        examples += taken.examples
        steps += taken.steps
        executions += 1
        count.since_sample += taken.steps
        if timed:
            step_s += [(step_end - step_begin) / taken.steps] * taken.steps
        step_begin = step_end
    feed.synchronise()
    end = clock()
    count.windows.append(Window(examples=examples, seconds=end - begin, wait_s=wait_s))
    count.steps.append(steps)
    count.step_s.append(step_s)
    count.cpu.append(cpu_clock() - cpu_begin)
    return end


def _finish(count: _Count, startup_s: float, stopped: Stopped) -> SteadyState:
    return SteadyState(
        windows=count.windows,
        steps=sum(count.steps),
        step_s=[each for step_s in count.step_s for each in step_s],
        startup_s=startup_s,
        stopped=stopped,
        settled=not drifts(count.windows),
        cpu_s=sum(count.cpu),
    )
