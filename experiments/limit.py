"""How fast a configuration could be at most on this machine, and how near it came. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from objectives.measurement import Ceilings

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
        consumer_only: the step on a batch that is there already.
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
        fraction: of it that was reached; above 1.05 the measurement is wrong.
    """

    model_config = ConfigDict(frozen=True)

    examples_per_s: float
    fraction: float
    binding: Binding
    terms: LimitTerms


def limit(
    rates: Sequence[float],
    ceilings: Sequence[Ceilings],
    cpu_s_per_example: Sequence[float],
    cores: int,
) -> Limit | None:
    """The limit of one configuration from its rounds, by the median of each term.

    Args:
        rates: examples/s of the rounds that measured the ceilings, too: the same minutes of the
            same host.
        ceilings: of those rounds.
        cpu_s_per_example: of all rounds.
        cores: that the trial may run on.
    """
    if not ceilings:
        return None
    cpu_s = statistics.median(cpu_s_per_example)
    terms = LimitTerms(
        producer_only=statistics.median(c.producer_only for c in ceilings),
        consumer_only=statistics.median(c.consumer_only for c in ceilings),
        cpu=cores / max(cpu_s, 1e-9),
    )
    named: dict[Binding, float] = {
        "producer_only": terms.producer_only,
        "consumer_only": terms.consumer_only,
        "cpu": terms.cpu,
    }
    binding = min(named, key=lambda name: named[name])
    return Limit(
        examples_per_s=named[binding],
        fraction=statistics.median(rates) / named[binding],
        binding=binding,
        terms=terms,
    )
