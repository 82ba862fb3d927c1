"""Judges the rounds of a study whose objective has a target: the cheapest that reaches it. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from prefetch_tuning.experiments.settings import LEAST_ROUNDS
from prefetch_tuning.experiments.verdict.confirmed import Confirmed
from prefetch_tuning.experiments.verdict.leaving import beaten
from prefetch_tuning.experiments.verdict.measurements import (
    AUTOTUNE,
    Round,
    nodes_of,
)
from prefetch_tuning.experiments.verdict.rates import Rates
from prefetch_tuning.experiments.verdict.ratio import interval_of
from prefetch_tuning.experiments.verdict.recommendation import (
    LEAST_SAVED_MIB,
    WORTH_SAVING,
    Recommended,
)
from prefetch_tuning.objectives.measurement import Interval, LimitTerms
from prefetch_tuning.objectives.objective import Objective, Reading
from prefetch_tuning.pipelines.config import PipelineConfig

# (rounds, shortfall): a candidate leaves if it missed the target by more than this shortfall in
# each of at least this many rounds.
FAR_SHORT = ((3, 0.1), (6, 0.0))
# From this many rounds on, a candidate leaves if another is cheaper in all of them.
CHEAPER_AFTER = 4
# Rounds continue until each open candidate is known to reach the target or to miss it, or until
# its shortfall is known within this.
PRECISE_POINTS = 0.02


class Shortfalls:
    """By how much candidates miss the target, over the rounds so far."""

    def __init__(
        self,
        goal: Objective,
        configs: Mapping[str, PipelineConfig],
        rounds: Sequence[Round],
        steps: Sequence[float],
    ) -> None:
        """`steps` has the rate of the step on ready batches in each round."""
        self._goal = goal
        self._configs = configs
        self._rounds = [*zip(rounds, steps, strict=True)]

    def of(self, name: str) -> Rates:
        """A candidate's shortfall in each round that measured it."""
        readings = self._readings(name, self._rounds)
        return Rates(map(self._goal.shortfall, readings), self._nodes(name, self._rounds))

    def interval(self, name: str) -> Interval:
        """The 95% interval of its median."""
        found = self.of(name)
        return interval_of((found,), np.median, found.nodes)

    def reaches(self, name: str) -> bool:
        """Whether the whole interval is at or above the target."""
        return bool(self.of(name)) and self.interval(name).high <= 0.0

    def misses(self, name: str) -> bool:
        """Whether the whole interval is below the target."""
        return bool(self.of(name)) and self.interval(name).low > 0.0

    def values(self, first: str, second: str) -> tuple[Rates, Rates]:
        """The values of two candidates in the rounds that measured both."""
        both = [(r, step) for r, step in self._rounds if first in r and second in r]
        own, its = (
            Rates(map(self._goal.value, self._readings(name, both)), self._nodes(name, both))
            for name in (first, second)
        )
        return own, its

    def is_cheaper(self, first: str, second: str) -> bool:
        """Whether the first one's median value is better by more than counts as equal."""
        own, its = self.values(first, second)
        return bool(own) and self._goal.is_better(statistics.median(own), statistics.median(its))

    def is_always_cheaper(self, first: str, second: str, rounds: int) -> bool:
        """Whether the first one's value is better in each of at least so many rounds."""
        pairs = list(zip(*self.values(first, second), strict=True))
        return len(pairs) >= rounds and all(self._goal.is_better(a, b) for a, b in pairs)

    def rank(self, name: str) -> float:
        """Sort key of a candidate's median value, best first."""
        value = statistics.median(self.values(name, name)[0])
        return -value if self._goal.direction == "maximize" else value

    def _readings(self, name: str, rounds: Sequence[tuple[Round, float]]) -> list[Reading]:
        config = self._configs[name]
        return [r[name].reading(config, step) for r, step in rounds if name in r]

    def _nodes(self, name: str, rounds: Sequence[tuple[Round, float]]) -> list[str]:
        return nodes_of([r for r, _ in rounds], name)


def step_rates(
    limits: Sequence[LimitTerms | None], rounds: Sequence[Round], otherwise: float
) -> list[float]:
    """The rate of the step in each round; `otherwise` where a round didn't measure it."""
    measured = [*limits, *[None] * (len(rounds) - len(limits))]
    return [terms.step_examples_per_s if terms else otherwise for terms in measured]


def leaves(names: Iterable[str], rounds: Sequence[Round], found: Shortfalls) -> set[str]:
    """The candidates that need no more rounds; AUTOTUNE is never one of them.

    One leaves if it misses the target by far and another doesn't, or if another one is cheaper and
    proven to reach the target. While none reaches it, the fastest is wanted.
    """
    names = [name for name in names if found.of(name)]
    reach = [name for name in names if statistics.median(found.of(name)) <= 0.0]
    if not reach:
        return beaten(names, rounds)
    cheapest = min(reach, key=found.rank)
    is_proven = found.reaches(cheapest)
    return {
        name
        for name in names
        if name not in (AUTOTUNE, cheapest)
        and (
            _far_off(found.of(name))
            or (is_proven and found.is_always_cheaper(cheapest, name, CHEAPER_AFTER))
        )
    }


def settled(names: Iterable[str], found: Shortfalls) -> bool:
    """Whether every candidate is known to reach or to miss the target, closely enough."""
    return all(
        found.reaches(name)
        or found.misses(name)
        or found.interval(name).high - found.interval(name).low <= PRECISE_POINTS
        for name in names
        if found.of(name)
    )


class TargetChooser:
    """Chooses the cheapest candidate that reaches the target and fits the memory limit.

    AUTOTUNE and the chain without prefetch can also be chosen.
    """

    def __init__(
        self,
        candidates: Sequence[Confirmed],
        rounds: Sequence[Round],
        found: Shortfalls,
        memory_limit_mib: float | None,
    ) -> None:
        self._rounds = rounds
        self._found = found
        self._fit = [
            c
            for c in candidates
            if c.rounds >= LEAST_ROUNDS
            and c.same_data
            and (memory_limit_mib is None or c.host_peak_mib <= memory_limit_mib)
        ]

    @property
    def contender(self) -> Confirmed | None:
        """The candidate to compare with AUTOTUNE."""
        reach = self._reaching()
        if not reach:
            return max(self._fit, key=lambda c: c.ci.low, default=None)
        return self._leanest(reach)

    def choose(self) -> Recommended | None:
        """Makes the recommendation; None if no candidate can be used."""
        chosen = self.contender
        if chosen is None:
            return None
        if not self._reaching():
            return Recommended.of(chosen, "no candidate reaches the target, and this is nearest")
        return Recommended.of(chosen, "the cheapest candidate that reaches the target")

    def _reaching(self) -> list[Confirmed]:
        return [c for c in self._fit if c.reaches]

    def _leanest(self, reach: Sequence[Confirmed]) -> Confirmed:
        """The cheapest; of equally cheap ones, one that keeps the order, with the fewest processes.

        Then least memory decides.
        """
        cheapest = min(reach, key=lambda c: self._found.rank(c.candidate))
        equal = [c for c in reach if not self._found.is_cheaper(cheapest.candidate, c.candidate)]
        equal = [c for c in equal if not c.config.reorder] or equal
        fewest = min(c.reading(1.0).processes for c in equal)
        equal = [c for c in equal if c.reading(1.0).processes == fewest]
        if cheapest not in equal:
            cheapest = min(equal, key=lambda c: self._found.rank(c.candidate))
        lean = min(equal, key=lambda c: c.memory_mib)
        saved_mib = cheapest.memory_mib - lean.memory_mib
        if saved_mib > max(LEAST_SAVED_MIB, WORTH_SAVING * cheapest.memory_mib):
            return lean
        return cheapest


def _far_off(shortfalls: Sequence[float]) -> bool:
    """Whether so many rounds missed the target by so much that the rest would not change it."""
    return any(len(shortfalls) >= n and min(shortfalls) > least for n, least in FAR_SHORT)
