"""Compares rates of the same rounds: their ratio, its interval and the verdict. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy import stats

from prefetch_tuning.experiments.settings import LEAST_ROUNDS
from prefetch_tuning.objectives.measurement import Interval

Verdict = Literal["faster", "slower", "no significant difference", "too few rounds"]

CONFIDENCE = 0.95
RESAMPLES = 2_000


class Ratio(BaseModel):
    """The ratio of a rate to the baseline's, with its 95% interval and the verdict."""

    model_config = ConfigDict(frozen=True)

    ratio: float
    ci: Interval
    verdict: Verdict

    @property
    def half_width(self) -> float:
        """Half of the interval, as a share of the ratio."""
        return (self.ci.high - self.ci.low) / 2 / self.ratio


def ratio_to(candidate: Sequence[float], baseline: Sequence[float], quantile: float = 0.5) -> Ratio:
    """Ratio of the medians of two series from the same rounds, with its bootstrap interval.

    Percentile bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13). It
    draws whole rounds, so noise that affects both sides of a round doesn't widen the interval.

    Args:
        candidate: the candidate's rate in each round.
        baseline: the baseline's rate in the same rounds.
        quantile: of the baseline's rates; the median unless said otherwise.
    """

    def ratio(above: Any, below: Any, axis: int = -1) -> Any:
        return np.median(above, axis=axis) / np.quantile(below, quantile, axis=axis)

    middle = float(ratio(candidate, baseline))
    ci = interval_of((candidate, baseline), ratio)
    return Ratio(ratio=middle, ci=ci, verdict=verdict(ci, len(candidate)))


def verdict(ci: Interval, rounds: int) -> Verdict:
    """The verdict for a ratio's interval over this many rounds: where it is relative to 1."""
    if rounds < LEAST_ROUNDS:
        return "too few rounds"
    if ci.low > 1.0:
        return "faster"
    return "slower" if ci.high < 1.0 else "no significant difference"


def variation(values: Sequence[float]) -> float:
    """Coefficient of variation: standard deviation over mean."""
    return statistics.stdev(values) / statistics.fmean(values)


def interval_of(series: tuple[Sequence[float], ...], statistic: Any) -> Interval:
    """95% percentile bootstrap interval of a statistic of one series or of paired series.

    The same rounds give the same interval, because the random generator has a fixed seed.
    """
    if len(series[0]) < 2:
        return Interval(low=0.0, high=math.inf)
    found = stats.bootstrap(
        series,
        statistic,
        paired=len(series) > 1,
        vectorized=True,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Interval(low=float(found.low), high=float(found.high))
