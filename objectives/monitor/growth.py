"""Names memory that keeps growing during training.

Early growth is normal: buffers and caches fill, and then they are full. malloc takes memory in
jumps. A leak grows in a straight line, so the rule looks for a line and not for a large size. After
the first seconds, all of these must hold:

1. Memory grew by at least 16 MiB, at 4 MiB per hour or more.
2. It grew steadily. The samples are cut into twelve parts, and the steps between the parts' medians
   have a mean of at least six standard errors. One large step has one. Garbage that is collected
   now and then fails, and so does almost every random walk.
3. It still grows: the mean of the last two steps is at least half of the mean of all steps.
4. It doesn't level off: the second half's slope is at least 0.75 times the first half's, by more
   than the error of this difference. A buffer that fills with a time constant of 40 s has 0.56.
5. The slope's 95% interval is above 0.

The rule tries the samples as they are, for a leak in jumps, and without their jumps upwards, for a
leak among other growth. Memory that rises at a constant rate for most of the first minute is named,
even if it stops or is collected later: by then, nothing tells it from a leak.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass

import numpy as np
import psutil
from numpy.typing import NDArray

from prefetch_tuning.objectives.machine.process_tree import MIB

Floats = NDArray[np.float64]

# Samples from the first seconds don't count, because buffers and caches fill then.
IGNORED_S = 12.0
# Decisions at 52, 55 and 58 s, before the first minute ends. Each later one comes after 15% more
# time: with one per sample, chance would have too many tries. Three days have about 60.
FIRST_LOOK_S, MINUTE_S, LOOK_STEP_S, LOOK_FACTOR = 52.0, 60.0, 3.0, 1.15
# The shares of the samples that are tried. The first one uses all. The second one forgives a slow
# start. The last one finds a leak that begins late, and must be long enough that a buffer that
# fills in a later epoch doesn't pass for a leak.
SHARES, RECENT_S = (1.0, 0.7, 1 / 3), 300.0

LEAST_MIB = 16.0
# 100 MiB per day. Slower growth ends no training, and fragmentation looks like it.
LEAST_MIB_PER_HOUR = 4.0
PARTS, LEAST_SAMPLES, MOST_SAMPLES = 12, 24, 600
STEADY, STILL, LEVELS_OFF = 6.0, 0.5, 0.75
# A jump is this much above the median step, and this many median deviations: six sigma.
JUMP_MIB, JUMP_DEVIATIONS = 3.0, 9.0
# Growth is named again only if it is this many times faster than when it was named.
WORSE = 2.0
# 97.5% of Student's t with 22 degrees of freedom, the fewest.
QUANTILE = 2.07
S_PER_HOUR = 3600.0


@dataclass(frozen=True)
class Trend:
    """Memory that grows, in MiB per hour, with the 95% interval of the rate."""

    mib_per_hour: float
    low: float
    high: float

    def __str__(self) -> str:
        value, low, high = (f"{rounded(x):,}" for x in (self.mib_per_hour, self.low, self.high))
        return f"memory grows by about {value} MiB per hour ({low} to {high})"


class Growth:
    """Collects samples of resident memory and says when they show a leak.

    Sampled once per second, with noise of 1 MiB, it names 1 MiB per second within 60 s. It names
    40 MiB per hour after 25 minutes to 2 hours: the 16 MiB alone take 24 minutes, and a noise of
    3 MiB needs an hour. A leak that begins late is named once it fills a third of the samples.

    It keeps at most 600 samples. When there are 600, each pair becomes its mean, and later samples
    are averaged likewise. So days of training take no more memory than ten minutes.
    """

    def __init__(self) -> None:
        self._start_s = math.nan
        self._next_look_s = FIRST_LOOK_S
        self._samples: list[tuple[float, float]] = []
        self._pending: list[tuple[float, float]] = []
        self._per_sample = 1
        self._named: Trend | None = None

    def add(self, seconds: float, mib: float) -> Trend | None:
        """Adds a sample and returns a trend if there is something to say.

        That happens once, and again only if memory then grows at least twice as fast.

        Args:
            seconds: when, on any clock that never goes back. The first call is the start.
            mib: resident memory in MiB.
        """
        if math.isnan(self._start_s):
            self._start_s = seconds
        passed_s = seconds - self._start_s
        if passed_s >= IGNORED_S:
            self._keep(passed_s, mib)
        if passed_s < self._next_look_s:
            return None
        soon_s = passed_s + LOOK_STEP_S
        self._next_look_s = soon_s if soon_s < MINUTE_S else passed_s * LOOK_FACTOR
        found = self.trend()
        if found is None or (self._named and found.low < WORSE * self._named.high):
            return None
        self._named = found
        return found

    def trend(self) -> Trend | None:
        """The growth that the samples show now, whether it was named before or not."""
        if not self._samples:
            return None
        times, sizes = np.array(self._samples).T
        for share in SHARES:
            since = int(np.searchsorted(times, (1 - share) * times[-1]))
            seconds, recent = times[since:], sizes[since:]
            late = share == SHARES[-1]
            if len(recent) < LEAST_SAMPLES or (late and seconds[-1] - seconds[0] < RECENT_S):
                break
            found = judged(seconds, recent) or judged(seconds, without_jumps(recent))
            if found is not None:
                return found
        return None

    def _keep(self, passed_s: float, mib: float) -> None:
        self._pending.append((passed_s, mib))
        if len(self._pending) < self._per_sample:
            return
        self._samples.append(_mean(self._pending))
        self._pending.clear()
        if len(self._samples) == MOST_SAMPLES:
            pairs = zip(self._samples[::2], self._samples[1::2], strict=True)
            self._samples = [_mean(list(pair)) for pair in pairs]
            self._per_sample *= 2


def resident_mib() -> float:
    """The resident memory of this process and its descendants, in MiB.

    It takes about 1 ms, because it reads /proc. Memory that a forked child shares with its parent
    counts twice. `process_tree.added_mib` doesn't, but took 44 ms for four children of a process
    of 1.5 GiB. For growth it makes no difference: a child that starts is one step.
    """
    own = psutil.Process()
    total = float(own.memory_info().rss)
    for child in own.children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it may have ended meanwhile
            total += child.memory_info().rss
    return total / MIB


def judged(times: Floats, sizes: Floats) -> Trend | None:
    """The growth of samples (seconds, MiB) by this module's rule; None if they show none."""
    slope, error = line(times, sizes)
    if slope * (times[-1] - times[0]) < LEAST_MIB or slope * S_PER_HOUR < LEAST_MIB_PER_HOUR:
        return None
    steps = np.diff([np.median(part) for part in np.array_split(sizes, PARTS)])
    if steps.mean() < STEADY * steps.std(ddof=1) / math.sqrt(len(steps)):
        return None
    if steps[-2:].mean() < STILL * steps.mean():
        return None
    middle = len(times) // 2
    first, first_error = line(times[:middle], sizes[:middle])
    second, second_error = line(times[middle:], sizes[middle:])
    if second - LEVELS_OFF * first < math.hypot(second_error, LEVELS_OFF * first_error):
        return None
    low, high = slope - QUANTILE * error, slope + QUANTILE * error
    if low <= 0:
        return None
    return Trend(S_PER_HOUR * slope, S_PER_HOUR * low, S_PER_HOUR * high)


def without_jumps(sizes: Floats) -> Floats:
    """The samples as if each jump upwards had been a usual step."""
    steps = np.diff(sizes)
    usual = float(np.median(steps))
    spread = float(np.median(np.abs(steps - usual)))
    jumps = steps > usual + max(JUMP_MIB, JUMP_DEVIATIONS * spread)
    usual_steps = np.where(jumps, usual, steps)
    return np.asarray(sizes[0] + np.concatenate([[0.0], np.cumsum(usual_steps)]))


def line(times: Floats, sizes: Floats) -> tuple[float, float]:
    """The least squares slope and its standard error, widened for autocorrelation.

    Neighbouring samples of memory are alike. n of them count as n (1 - r) / (1 + r), with the
    residuals' lag-one autocorrelation r. An estimated r is too low by about (1 + 4 r) / n
    (Marriott and Pope 1954, Kendall 1954).
    """
    count = len(times)
    centred = times - times.mean()
    spread = float(centred @ centred)
    slope = float(centred @ sizes) / spread
    rest = sizes - sizes.mean() - slope * centred
    squares = float(rest @ rest)
    alike = float(rest[1:] @ rest[:-1]) / squares if squares > 0 else 0.0
    alike = min(max(alike + (1 + 4 * alike) / count, 0.0), 0.98)
    return slope, math.sqrt(squares / (count - 2) / spread * (1 + alike) / (1 - alike))


def rounded(value: float) -> int:
    """A positive number with two significant digits, or to the next integer below 10."""
    return int(round(value, 1 - math.floor(math.log10(value)))) if value >= 10 else round(value)


def _mean(samples: list[tuple[float, float]]) -> tuple[float, float]:
    times, sizes = zip(*samples, strict=True)
    return sum(times) / len(samples), sum(sizes) / len(samples)
