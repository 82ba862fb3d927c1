"""From measurements to a state: an estimate with its 99 % interval, held against an expectation.

A line is one of dozens and an audit is run again and again, so that intervals of 95 % would fail
somewhere every time. Pure.
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
        name: of what is audited.
        planted: what was built in, in words.
        expected: what must come out if the claim is true.
        measured: what came out, with its interval.
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
    """A value with its 99 % interval, in the same unit."""

    value: float
    interval: Interval

    def text(self, form: str = "{:.2f}x") -> str:
        """The value and the interval's ends, each as `form` has it."""
        low, high = form.format(self.interval.low), form.format(self.interval.high)
        return f"{form.format(self.value)} ({low} to {high})"


def judge(
    found: Estimate, low: float = -math.inf, high: float = math.inf, *, proven: bool = False
) -> State:
    """Whether what was expected, a value from `low` to `high`, holds.

    Args:
        found: what was measured.
        low: least value that is expected.
        high: greatest one.
        proven: the whole interval must lie within, not only the estimate.
    """
    interval = found.interval
    if interval.high < low or interval.low > high:
        return "fails"
    inside = low <= interval.low and interval.high <= high if proven else low <= found.value <= high
    return "holds" if inside else "undecided"


def interval_of(
    series: Sequence[Sequence[float]], statistic: Any, confidence: float = CONFIDENCE
) -> Interval:
    """Percentile bootstrap interval of a statistic of series of the same rounds.

    Whole rounds are drawn, as in `experiments/verdict/ratio.py`, whose confidence is fixed.
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
    """The best candidate's median over that of `below`, all of the same rounds.

    It is chosen again in each resample, so that the luck of having been chosen is in the interval.
    """

    def over(*series: Any, axis: int = -1) -> Any:
        base, *others = (np.median(values, axis=axis) for values in series)
        return np.maximum.reduce(others) / base

    series = [below, *candidates]
    return Estimate(float(over(*series)), interval_of(series, over))


def widened(value: float, ci: Interval) -> Estimate:
    """A ratio whose 95 % interval is known and its rounds are not, with one of 99 %.

    The ends move by the ratio of the normal quantiles on the log scale.
    """
    if not 0.0 < ci.low <= value <= ci.high < math.inf:
        return Estimate(value, UNKNOWN)
    by = float(stats.norm.ppf(0.5 + CONFIDENCE / 2) / stats.norm.ppf(0.975))
    low, high = (value * (end / value) ** by for end in (ci.low, ci.high))
    return Estimate(value, Interval(low=low, high=high))


def spread(values: Sequence[float]) -> Estimate:
    """Coefficient of variation, with the chi-square interval of a standard deviation.

    A bootstrap of a handful of values would know nothing of those that did not come up.
    """
    if len(values) < 2:
        return Estimate(0.0, UNKNOWN)
    cv, freedom = variation(values), len(values) - 1
    low, high = (
        cv * math.sqrt(freedom / float(stats.chi2.ppf(tail, freedom)))
        for tail in (0.5 + CONFIDENCE / 2, 0.5 - CONFIDENCE / 2)
    )
    return Estimate(cv, Interval(low=low, high=high))
