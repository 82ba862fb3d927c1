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
from prefetch_tuning.experiments.verdict.rates import Rates
from prefetch_tuning.objectives.measurement import Interval

Verdict = Literal["faster", "slower", "no significant difference", "too few rounds"]

CONFIDENCE = 0.95
RESAMPLES = 2_000
# With fewer nodes, drawing some of them says little about other nodes.
LEAST_NODES = 6
# With fewer rounds on a node, drawing some of them says too little about its other rounds.
LEAST_OF_NODE = 5


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
    nodes = candidate.nodes if isinstance(candidate, Rates) else ()
    ci = interval_of((candidate, baseline), ratio, nodes)
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


def interval_of(
    series: tuple[Sequence[float], ...], statistic: Any, nodes: Sequence[str] = ()
) -> Interval:
    """95% percentile bootstrap interval of a statistic of one series or of paired series.

    The same rounds give the same interval, because the random generator has a fixed seed.

    Args:
        series: the rates of rounds.
        statistic: of one array per series; takes an `axis`.
        nodes: the node of each round, if they ran on several.
    """
    if len(series[0]) < 2:
        return Interval(low=0.0, high=math.inf)
    if len(set(nodes)) > 1:
        return _interval_over_nodes(series, statistic, nodes)
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


def _interval_over_nodes(
    series: tuple[Sequence[float], ...], statistic: Any, nodes: Sequence[str]
) -> Interval:
    """The interval if rounds ran on several nodes, whose differences aren't noise of a round.

    Bootstrap in two stages (Davison and Hinkley, Bootstrap Methods and their Application, section
    3.8): it draws nodes, then rounds of each. Of fewer than `LEAST_NODES`, it keeps all nodes and
    draws rounds of each; if one of them has too few for that, it draws from all rounds.
    """
    rng = np.random.default_rng(0)
    rounds_of = [np.flatnonzero(np.asarray(nodes) == node) for node in sorted(set(nodes))]
    if len(rounds_of) >= LEAST_NODES:
        drawn = _of_drawn_nodes(rounds_of, len(nodes), rng)
    elif min(map(len, rounds_of)) >= LEAST_OF_NODE:
        drawn = np.concatenate(
            [own[rng.integers(len(own), size=(RESAMPLES, len(own)))] for own in rounds_of], axis=1
        )
    else:
        drawn = rng.integers(len(nodes), size=(RESAMPLES, len(nodes)))
    found = statistic(*(np.asarray(rates)[drawn] for rates in series), axis=-1)
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(found, [tail, 1.0 - tail])
    return Interval(low=float(low), high=float(high))


def _of_drawn_nodes(
    rounds_of: Sequence[Any], count: int, rng: np.random.Generator
) -> np.ndarray[Any, Any]:
    """For each resample, the numbers of `count` rounds of nodes that are drawn first."""
    rounds, sizes = np.concatenate(rounds_of), np.array([len(own) for own in rounds_of])
    begins = np.cumsum(sizes) - sizes
    nodes = rng.integers(len(sizes), size=(RESAMPLES, len(sizes)))
    ends = np.cumsum(sizes[nodes], axis=1)
    # A number from 0 to the rounds of all drawn nodes says which node, and which of its rounds.
    places = rng.integers(ends[:, -1:], size=(RESAMPLES, count))
    which = (places[:, :, None] >= ends[:, None, :]).sum(axis=2)
    node = np.take_along_axis(nodes, which, axis=1)
    within = places - np.take_along_axis(ends, which, axis=1) + sizes[node]
    found: np.ndarray[Any, Any] = rounds[begins[node] + within]
    return found
