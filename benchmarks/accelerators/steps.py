"""Chooses two emulated steps per pipeline: a known one that it can feed, and a hard one."""

from __future__ import annotations

from dataclasses import dataclass

from prefetch_tuning.pipelines.accelerators import ACCELERATORS
from prefetch_tuning.pipelines.step_time import DECIMALS, StepTime

# A known step is easy if the pipeline's limit is at least this many times its rate.
EASY = 2.0
# The rate of the hard step as a share of the pipeline's limit.
HARD = 0.7
# The longest step: a trial of one or two seconds should have at least a dozen.
LONGEST_S = 0.12
EASY_STEP, HARD_STEP = "easy", "hard"


@dataclass(frozen=True)
class Fed:
    """A step to feed at a batch size."""

    kind: str
    step: StepTime
    batch_size: int


def steps_for(limit: float, batch_sizes: list[int]) -> list[Fed]:
    """The steps to feed.

    Args:
        limit: examples/s that the pipeline makes at most, without a step.
        batch_sizes: the pipeline's own.
    """
    hard = StepTime(per_example_ms=round(1e3 / (HARD * limit), DECIMALS))
    return [*_easy(limit, batch_sizes), Fed(HARD_STEP, hard, max(batch_sizes))]


def _easy(limit: float, batch_sizes: list[int]) -> list[Fed]:
    """The fastest known step that is easy and not too long; none if there is no such step."""
    found = []
    for known in ACCELERATORS.values():
        rate = 1.0 / known.step_time.seconds(1)
        sizes = [size for size in batch_sizes if size / rate <= LONGEST_S]
        if sizes and EASY * rate <= limit:
            found.append((rate, Fed(EASY_STEP, known.step_time, max(sizes))))
    return [max(found, key=lambda pair: pair[0])[1]] if found else []
