"""Computes how fast this machine could run a pipeline at most, and how near a candidate came. Pure.

The limit depends on the pipeline, the device and the batch size, and on no setting. A limit made of
a candidate's own terms would make one that wastes CPU time look better.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from prefetch_tuning.experiments.verdict.rates import Rates
from prefetch_tuning.experiments.verdict.ratio import interval_of, ratio_to
from prefetch_tuning.objectives.measurement import Interval, LimitTerms

Binding = Literal["step", "generator", "cpu"]

IN_WORDS: dict[Binding, str] = {
    "step": "the training step, which is no faster even if every batch is ready",
    "generator": "the rate of the bare generator in {processes}",
    "cpu": "the CPU time that an example needs in generator, tf.data, map and step",
}
# More processes than this aren't worth their memory, even if a generator waits most of the time.
MOST_PROCESSES = 32
# The quantile of the rounds' rates to use for each term. Other work on the host only adds CPU time,
# so the least that an example needs is seen in the better rounds: over five studies of a pipeline,
# the medians of the CPU term varied by 10%, and the upper quartiles by 3%. The best round alone
# would be the luckiest difference of two noisy readings.
QUANTILES: dict[Binding, float] = {"step": 0.5, "generator": 0.5, "cpu": 0.75}


class LimitBreakdown(BaseModel):
    """The rate that each resource allows, in examples/s.

    Attributes:
        step: the step on batches that are ready.
        generator: the bare generator, with its pauses, times the processes that it can be split
            into; None if it cannot run alone.
        cpu: cores divided by the least CPU seconds that an example needs.
    """

    model_config = ConfigDict(frozen=True)

    step: float
    generator: float | None
    cpu: float


class Limit(BaseModel):
    """The smallest of the terms; each is a quantile over the rounds.

    Attributes:
        examples_per_s: the limit.
        ci: its 95% bootstrap interval.
        binding: the term that sets the limit.
        processes: processes that the generator can be split into.
        step_cores: cores that the step alone keeps busy.
        cores: cores that a trial may use.
    """

    model_config = ConfigDict(frozen=True)

    examples_per_s: float
    ci: Interval
    binding: Binding
    terms: LimitBreakdown
    processes: int
    step_cores: float
    cores: float

    @property
    def before_step(self) -> float:
        """Examples/s that the cores and the generator allow."""
        return min(rate for rate in (self.terms.cpu, self.terms.generator) if rate is not None)

    @property
    def in_words(self) -> str:
        """What sets the limit in words, as the end of a sentence that begins with "set by"."""
        return IN_WORDS[self.binding].format(processes=self.processes_in_words)

    @property
    def processes_in_words(self) -> str:
        """The number of processes that the generator's term counts."""
        return "1 process" if self.processes == 1 else f"{self.processes} processes"


class Fraction(BaseModel):
    """A candidate's rate as a share of the limit, or of one of its terms, paired by round.

    If the whole interval is above 1, something was measured wrong.
    """

    model_config = ConfigDict(frozen=True)

    share: float
    ci: Interval


class LimitRounds:
    """The limit's terms of every round that measured them, and the limit that they give."""

    def __init__(
        self,
        terms: Sequence[LimitTerms | None],
        cores: float,
        *,
        splittable: bool,
        flowing_share: float = 1.0,
        other_cores: float = 0.0,
    ) -> None:
        """Takes one entry of `terms` per round.

        Args:
            terms: the terms of each round that measured them.
            cores: cores that a trial may use.
            splittable: whether processes can share the generator's work.
            flowing_share: share of the time in which the generator doesn't pause. Its rate is
                measured in less time than there is between two pauses.
            other_cores: cores of other hosts, which can run the generator only.
        """
        self._terms = terms
        self._cores, self._other_cores = cores, other_cores
        self._flowing_share = flowing_share
        found = [t for t in terms if t is not None]
        most = max(MOST_PROCESSES, int(cores + other_cores)) if other_cores else MOST_PROCESSES
        self._processes = 1
        if found:
            self._processes = processes_for(
                found, cores + other_cores, splittable=splittable, most=most
            )
        self.limit = self._limit(found) if found else None

    def fraction(self, rates: Sequence[float | None]) -> Fraction | None:
        """The share of the limit that a candidate reached, over the rounds that measured both.

        `rates` has one entry per round; None means that the candidate was not measured.
        """
        return None if self.limit is None else self._share(rates, self.limit.binding)

    def utilisation(self, rates: Sequence[float | None]) -> Fraction | None:
        """A candidate's rate as a share of the step's rate on ready batches; arguments as above.

        It is what MLPerf Storage calls accelerator utilisation. On a GPU, the host's own waiting
        says less: the device may still have steps to run meanwhile.
        """
        return self._share(rates, "step")

    def _share(self, rates: Sequence[float | None], term: Binding) -> Fraction | None:
        both = [
            (rate, terms)
            for rate, terms in zip(rates, self._terms, strict=True)
            if rate is not None and terms is not None
        ]
        if not both:
            return None
        found = Rates((rate for rate, _ in both), _nodes([terms for _, terms in both]))
        limits = [self._rows(terms)[term] for _, terms in both]
        reached = ratio_to(found, limits, quantile=QUANTILES[term])
        return Fraction(share=reached.ratio, ci=reached.ci)

    def _rows(self, terms: LimitTerms) -> Mapping[Binding, float]:
        rows: dict[Binding, float] = {
            "step": terms.step_examples_per_s,
            "cpu": self._cpu_rate(terms),
        }
        if terms.generator_examples_per_s is not None:
            rate = terms.generator_examples_per_s * self._flowing_share
            rows["generator"] = rate * self._processes
        return rows

    def _cpu_rate(self, terms: LimitTerms) -> float:
        """Examples/s that the cores allow; those of other hosts run the generator only."""
        all_cores = self._cores + self._other_cores
        rate = all_cores / max(terms.cpu_s_per_example, 1e-9)
        if not self._other_cores:
            return rate
        here_s = terms.cpu_s_per_example - terms.generator_cpu_s
        return min(rate, self._cores / max(here_s, 1e-9))

    def _limit(self, found: Sequence[LimitTerms]) -> Limit:
        rows = [self._rows(terms) for terms in found]
        values = {
            name: float(np.quantile([row[name] for row in rows], QUANTILES[name]))
            for name in rows[0]
        }
        binding = min(values, key=lambda name: values[name])
        quantile = functools.partial(np.quantile, q=QUANTILES[binding])
        return Limit(
            examples_per_s=values[binding],
            ci=interval_of(([row[binding] for row in rows],), quantile, _nodes(found)),
            binding=binding,
            terms=LimitBreakdown(
                step=values["step"], generator=values.get("generator"), cpu=values["cpu"]
            ),
            processes=self._processes,
            step_cores=statistics.median(terms.step_cores for terms in found),
            cores=self._cores,
        )


def _nodes(found: Sequence[LimitTerms]) -> list[str]:
    """The cluster's node that measured each of them; empty without a cluster."""
    nodes = [terms.node for terms in found]
    return [] if None in nodes else [str(node) for node in nodes]


def processes_for(
    terms: Sequence[LimitTerms], cores: float, *, splittable: bool, most: int = MOST_PROCESSES
) -> int:
    """The number of processes to split a generator into: enough to keep all cores busy."""
    if not splittable:
        return 1
    shares = [
        t.generator_cpu_s * t.generator_examples_per_s for t in terms if t.generator_examples_per_s
    ]
    # If it waits for half of its time, two processes share a core.
    busy = min(statistics.median(shares), 1.0) if shares else 1.0
    return min(most, max(math.ceil(cores / max(busy, 1e-9)), 1))
