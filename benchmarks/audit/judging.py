"""Turns measurements into a state: compares an estimate's 99% interval with what is expected.

An audit has dozens of lines and runs again and again, so with 95% intervals some line would fail
every time. The functions are pure.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy import stats

from prefetch_tuning.experiments.verdict.ratio import RESAMPLES, variation
from prefetch_tuning.objectives.measurement import Interval

State = Literal["holds", "fails", "undecided"]

CONFIDENCE = 0.99
UNKNOWN = Interval(low=-math.inf, high=math.inf)


class Line(BaseModel):
    """One row of an audit.

    Attributes:
        name: what is audited.
        planted: what was built in, in words.
        expected: what must be measured if the claim is true.
        measured: what was measured, with its interval.
        state: *fails* if the interval excludes what is expected, *undecided* if only the estimate
            misses it.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    planted: str
    expected: str
    measured: str
    state: State


@dataclass(frozen=True)
class Estimate:
    """A value with its 99% interval, in the same unit."""

    value: float
    interval: Interval

    def text(self, form: str = "{:.2f}x") -> str:
        """The value and the interval's ends, each formatted with `form`."""
        low, high = form.format(self.interval.low), form.format(self.interval.high)
        return f"{form.format(self.value)} ({low} to {high})"


def judge(
    found: Estimate, low: float = -math.inf, high: float = math.inf, *, proven: bool = False
) -> State:
    """Judges whether a measured value is from `low` to `high`, as expected.

    Args:
        found: what was measured.
        low: the least expected value.
        high: the greatest expected value.
        proven: whether the whole interval must be within these, not only the estimate.
    """
    interval = found.interval
    if interval.high < low or interval.low > high:
        return "fails"
    inside = low <= interval.low and interval.high <= high if proven else low <= found.value <= high
    return "holds" if inside else "undecided"


def doubted(state: State, doubt: str) -> State:
    """The same, but nothing holds against a truth that is in doubt."""
    return "undecided" if doubt and state == "holds" else state


def interval_of(
    series: Sequence[Sequence[float]], statistic: Any, confidence: float = CONFIDENCE
) -> Interval:
    """Percentile bootstrap interval of a statistic of series from the same rounds.

    It draws whole rounds, as `experiments/verdict/ratio.py` does, whose confidence is fixed.
    """
    if len(series[0]) < 2:
        return UNKNOWN
    found = stats.bootstrap(
        tuple(series),
        statistic,
        paired=len(series) > 1,
        vectorized=True,
        n_resamples=RESAMPLES,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Interval(low=float(found.low), high=float(found.high))


def median(values: Sequence[float]) -> Estimate:
    """Median of independent measurements."""
    return Estimate(statistics.median(values), interval_of([values], np.median))


def ratio(below: Sequence[float], *candidates: Sequence[float]) -> Estimate:
    """The best candidate's median divided by that of `below`, all from the same rounds.

    The best is chosen again in each resample, so the interval includes the luck of being chosen.
    """

    def over(*series: Any, axis: int = -1) -> Any:
        base, *others = (np.median(values, axis=axis) for values in series)
        return np.maximum.reduce(others) / base

    series = [below, *candidates]
    return Estimate(float(over(*series)), interval_of(series, over))


def widened(value: float, ci: Interval) -> Estimate:
    """A ratio with a 99% interval, made from its 95% interval because its rounds aren't known.

    The ends move by the ratio of the normal quantiles on the log scale.
    """
    if not 0.0 < ci.low <= value <= ci.high < math.inf:
        return Estimate(value, UNKNOWN)
    by = float(stats.norm.ppf(0.5 + CONFIDENCE / 2) / stats.norm.ppf(0.975))
    low, high = (value * (end / value) ** by for end in (ci.low, ci.high))
    return Estimate(value, Interval(low=low, high=high))


def spread(values: Sequence[float]) -> Estimate:
    """Coefficient of variation, with the chi-square interval of a standard deviation.

    A bootstrap of a handful of values would know nothing of values that weren't drawn.
    """
    if len(values) < 2:
        return Estimate(0.0, UNKNOWN)
    cv, freedom = variation(values), len(values) - 1
    low, high = (
        cv * math.sqrt(freedom / float(stats.chi2.ppf(tail, freedom)))
        for tail in (0.5 + CONFIDENCE / 2, 0.5 - CONFIDENCE / 2)
    )
    return Estimate(cv, Interval(low=low, high=high))
