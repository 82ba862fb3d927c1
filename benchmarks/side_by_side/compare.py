"""Compares the rates of two candidates from the same rounds. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from prefetch_tuning.experiments.verdict.ratio import Ratio, verdict
from prefetch_tuning.objectives.measurement import Interval

SIGNIFICANT = 0.05
# If two were this far apart in so many rounds, in all of them, further rounds say nothing new.
EARLY, FAR_APART = 3, 2.0


@dataclass(frozen=True)
class Comparison:
    """Ours beside another one.

    Attributes:
        name: what is compared.
        ratio: ours over the other one's rate, the geometric mean of the rounds.
        slower: the p-value of ours being as fast or faster.
    """

    name: str
    ratio: Ratio
    slower: float

    @classmethod
    def of(cls, name: str, ours: Sequence[float], others: Sequence[float]) -> Comparison:
        """From the rates of rounds that measured both.

        The test is Student's on the logarithms of the rounds' ratios, which is what rounds differ
        in. A test of ranks could not become significant in so few rounds and so many comparisons.
        """
        logs = np.log(np.asarray(ours) / np.asarray(others))
        slower = float(stats.ttest_1samp(logs, 0.0, alternative="less").pvalue)
        both = stats.ttest_1samp(logs, 0.0)
        low, high = np.exp(both.confidence_interval(0.95))
        ci = Interval(low=float(low), high=float(high))
        found = Ratio(ratio=float(np.exp(logs.mean())), ci=ci, verdict=verdict(ci, len(logs)))
        return cls(name, found, slower)


def far_apart(ours: Sequence[float], others: Sequence[float]) -> bool:
    """Whether the first rounds are enough to know which one is faster."""
    ratios = [own / its for own, its in zip(ours, others, strict=True)][:EARLY]
    if len(ratios) < EARLY:
        return False
    return min(ratios) > FAR_APART or max(ratios) < 1.0 / FAR_APART


def slower_ones(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons in which ours is significantly slower, after Holm's correction for all."""
    ranked = sorted(comparisons, key=lambda one: one.slower)
    found = []
    for rank, one in enumerate(ranked):
        if one.slower * (len(ranked) - rank) > SIGNIFICANT:
            break
        found.append(one)
    return found
