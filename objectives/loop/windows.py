"""What counted windows say: a rate with its interval, and whether it drifts. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

from scipy import stats

from prefetch_tuning.objectives.measurement import Interval, Window
from prefetch_tuning.objectives.spec import StopRule

# A difference between the first and the last third of the windows up to this share isn't drift,
# however significant it is.
DRIFT_SHARE = 0.03


def mean_rate(windows: Sequence[Window]) -> float:
    """Examples per second: all examples over all seconds, so long windows weigh more."""
    return sum(w.examples for w in windows) / sum(w.seconds for w in windows)


def interval(windows: Sequence[Window]) -> Interval:
    """95% interval of `mean_rate`, in examples per second.

    The variance is that of a ratio estimator (Cochran, Sampling Techniques, section 6.4), with
    Student's t. The number of windows is reduced for their lag-1 correlation, as in the analysis of
    simulation output, because neighbouring windows share the buffers' state and aren't independent.
    """
    if len(windows) < 2:
        return Interval(low=0.0, high=math.inf)
    rate = mean_rate(windows)
    residuals = [w.examples - rate * w.seconds for w in windows]
    seconds = sum(w.seconds for w in windows)
    spread = statistics.stdev(residuals) * math.sqrt(len(windows)) / seconds
    independent = effective_count(residuals)
    factor = _t_factor(round(max(independent - 1.0, 1.0), 1))
    half_width = factor * spread * math.sqrt(len(windows) / independent)
    return Interval(low=max(rate - half_width, 0.0), high=rate + half_width)


def effective_count(values: Sequence[float]) -> float:
    """Number of independent values that carry the same information, from 2 to `len(values)`."""
    count = len(values)
    mean = statistics.fmean(values)
    total = sum((value - mean) ** 2 for value in values)
    if total == 0.0 or count < 4:
        return float(count)
    correlation = sum((a - mean) * (b - mean) for a, b in pairwise(values)) / total
    # Only a positive correlation shrinks the count. A negative estimate is mostly noise, and
    # trusting it would narrow the interval.
    correlation = min(max(correlation, 0.0), 0.9)
    return max(count * (1.0 - correlation) / (1.0 + correlation), 2.0)


def half_width_share(windows: Sequence[Window]) -> float:
    """Half of the interval's width, as a share of the rate."""
    rate = mean_rate(windows)
    return (interval(windows).high - rate) / rate if rate > 0 else math.inf


def percentiles_ms(step_s: Sequence[float]) -> tuple[float, float]:
    """Median and 95th percentile of step times in milliseconds (nearest rank)."""
    ranked = sorted(step_s)
    p50, p95 = (ranked[math.ceil(share * len(ranked)) - 1] for share in (0.50, 0.95))
    return 1_000.0 * p50, 1_000.0 * p95


def drifts(windows: Sequence[Window]) -> bool:
    """Whether the first and the last third of the windows differ by more than their noise."""
    rates = [window.rate for window in windows]
    third = len(rates) // 3
    if third < 2:
        return False
    first, last = rates[:third], rates[-third:]
    difference = statistics.fmean(last) - statistics.fmean(first)
    error = math.sqrt((statistics.variance(first) + statistics.variance(last)) / third)
    factor = _t_factor(2.0 * third - 2.0)
    significant = abs(difference) > factor * error
    return significant and abs(difference) > DRIFT_SHARE * statistics.fmean(rates)


def prunable(windows: Sequence[Window], best: float | None, rule: StopRule) -> bool:
    """Whether the whole interval is clearly below the best rate so far."""
    return best is not None and interval(windows).high < rule.prune_share * best


@lru_cache(maxsize=1_000)
def _t_factor(freedom: float) -> float:
    """Two-sided 95% quantile of Student's t; cached, because it is needed between windows."""
    return float(stats.t.ppf(0.975, freedom))
