"""How fast a configuration could be at most on this machine, and how near it came. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from experiments.verdict.ratio import ratio_to
from objectives.measurement import Ceilings, Interval

Binding = Literal["producer_only", "consumer_only", "cpu"]

IN_WORDS: dict[Binding, str] = {
    "producer_only": "the pipeline, which makes no more even if nothing is done to its batches",
    "consumer_only": "the training step, which takes no more even if every batch is there already",
    "cpu": "the processor: with all of its cores busy it does no more",
}


class LimitTerms(BaseModel):
    """What each thing that can run out allows, in examples/s.

    Attributes:
        producer_only: the same pipeline without the step.
        consumer_only: the step on a batch that lies ready.
        cpu: cores over CPU seconds per example.
    """

    model_config = ConfigDict(frozen=True)

    producer_only: float
    consumer_only: float
    cpu: float


class Limit(BaseModel):
    """The least of the terms, which one it is, and what share of it was reached.

    Attributes:
        examples_per_s: the limit.
        fraction: of it that was reached; where its whole interval lies above 1.05, something was
            measured wrong.
        fraction_ci: 95 % bootstrap interval, with whole rounds drawn.
        wait_fraction: share of the loop's time in which the step waited for its batch.
        consumer_cores: that the step keeps busy by itself.
        cores: that the trial may run on.
    """

    model_config = ConfigDict(frozen=True)

    examples_per_s: float
    fraction: float
    fraction_ci: Interval
    binding: Binding
    terms: LimitTerms
    wait_fraction: float
    consumer_cores: float
    cores: int


def limit(
    rates: Sequence[float],
    ceilings: Sequence[Ceilings],
    cpu_s_per_example: Sequence[float],
    wait_fractions: Sequence[float],
    cores: int,
) -> Limit | None:
    """The limit of one configuration, by the median of each term over its rounds.

    Args:
        rates: examples/s of the rounds that measured the ceilings, too.
        ceilings: of those rounds, measured in the same processes.
        cpu_s_per_example: of those rounds.
        wait_fractions: of those rounds.
        cores: that the trial may run on.
    """
    if not ceilings:
        return None
    rows: dict[Binding, list[float]] = {
        "producer_only": [c.producer_only for c in ceilings],
        "consumer_only": [c.consumer_only for c in ceilings],
        "cpu": [cores / max(seconds, 1e-9) for seconds in cpu_s_per_example],
    }
    terms = {name: statistics.median(row) for name, row in rows.items()}
    binding = min(terms, key=lambda name: terms[name])
    reached = ratio_to(rates, rows[binding])
    return Limit(
        examples_per_s=terms[binding],
        fraction=reached.ratio,
        fraction_ci=reached.ci,
        binding=binding,
        terms=LimitTerms.model_validate(terms),
        wait_fraction=statistics.median(wait_fractions),
        consumer_cores=statistics.median(c.consumer_cores for c in ceilings),
        cores=cores,
    )
