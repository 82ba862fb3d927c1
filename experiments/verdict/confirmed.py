"""Summarises one candidate over all its rounds. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np

from prefetch_tuning.experiments.verdict.limit import Fraction, LimitRounds
from prefetch_tuning.experiments.verdict.measurements import (
    AUTOTUNE,
    Reached,
    Round,
    rates_of,
    shared,
)
from prefetch_tuning.experiments.verdict.ratio import Ratio, interval_of, ratio_to, variation
from prefetch_tuning.pipelines.config import PipelineConfig


class Confirmed(Reached):
    """One candidate over all its rounds; rate, memory and CPU time are medians.

    Attributes:
        rounds: the rounds that measured it; fewer than all if it was beaten and left.
        ci: bootstrap interval of the median.
        cv: standard deviation of the rounds over their mean, the noise of host and pipeline; None
            for a single round.
        first_batch_s: median seconds until the first batch was ready.
        host_wait_fraction: median share of the time in which the host waited for a batch.
        producer_only: median rate of the chain without the step; None if it wasn't measured.
        ratio: ratio to AUTOTUNE; None for AUTOTUNE itself or without it.
        fraction: share of the study's limit that the candidate reached; None without a limit.
        utilisation: its rate as a share of the step's rate on ready batches. The accelerator waits
            for data in the rest of the time. None without a limit.
        reaches: whether it is proven to reach the objective's target; None without a target.
        same_data: False if its batches differed from the plain chain's.
    """

    candidate: str
    rounds: int
    cv: float | None
    first_batch_s: float = 0.0
    host_wait_fraction: float = 0.0
    producer_only: float | None = None
    ratio: Ratio | None
    fraction: Fraction | None
    utilisation: Fraction | None = None
    reaches: bool | None = None
    same_data: bool = True


def confirmed(
    name: str,
    config: PipelineConfig,
    rounds: Sequence[Round],
    limits: LimitRounds,
    *,
    same_data: bool,
) -> Confirmed | None:
    """Summarises a candidate; None if no round measured it."""
    measured = [r[name] for r in rounds if name in r]
    if not measured:
        return None
    rates = rates_of(rounds, name)
    device = [m.device_peak_mib for m in measured if m.device_peak_mib is not None]
    alone = [m.ceilings.producer_only for m in measured if m.ceilings is not None]
    above, below = shared(rounds, name, AUTOTUNE)
    by_round = [r[name].examples_per_s if name in r else None for r in rounds]
    return Confirmed(
        candidate=name,
        config=config,
        rounds=len(rates),
        examples_per_s=statistics.median(rates),
        ci=interval_of((rates,), np.median, rates.nodes),
        cv=variation(rates) if len(rates) > 1 else None,
        host_peak_mib=statistics.median(m.host_peak_mib for m in measured),
        device_peak_mib=statistics.median(device) if device else None,
        first_batch_s=statistics.median(m.first_batch_s for m in measured),
        host_wait_fraction=statistics.median(m.host_wait_fraction for m in measured),
        producer_only=statistics.median(alone) if alone else None,
        cpu_s_per_example=statistics.median(m.cpu_s_per_example for m in measured),
        ratio=ratio_to(above, below) if above and name != AUTOTUNE else None,
        fraction=limits.fraction(by_round),
        utilisation=limits.utilisation(by_round),
        same_data=same_data,
    )
