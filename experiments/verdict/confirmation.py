"""Which configuration won, by how much, and with what certainty. Pure: rounds in, a verdict out.

A round measures every candidate once, in random order and each in a fresh process, so that a slow
minute of the host falls on all of them. Rounds are what is resampled: a candidate is compared with
the baseline of its own round.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from experiments.settings import LEAST_ROUNDS
from experiments.verdict.limit import Limit, limit
from experiments.verdict.ratio import Ratio, interval_of, ratio_to, variation
from objectives.measurement import Ceilings, Interval, Measurement
from pipelines.config import PipelineConfig

AUTOTUNE, NO_PREFETCH = "autotune", "no_prefetch"
# The best that leaves the structure of the chain alone, where the structure was searched, too.
BASIC = "basic"
# Rounds go on until the ratio to AUTOTUNE is known within this share.
PRECISE_SHARE = 0.05


class RoundMeasurement(BaseModel):
    """What one candidate reached in one round."""

    model_config = ConfigDict(frozen=True)

    examples_per_s: float
    host_peak_mib: float
    device_peak_mib: float | None
    cpu_s_per_example: float
    wait_fraction: float
    ceilings: Ceilings | None
    mlflow_run_id: str

    @classmethod
    def of(cls, measured: Measurement, run_id: str) -> RoundMeasurement:
        """The part of a measurement that a verdict needs."""
        return cls(
            examples_per_s=measured.examples_per_s,
            host_peak_mib=measured.host_peak_mib,
            device_peak_mib=measured.device_peak_mib,
            cpu_s_per_example=measured.cpu_seconds_per_1k_examples / 1_000.0,
            wait_fraction=measured.wait_fraction,
            ceilings=measured.ceilings,
            mlflow_run_id=run_id,
        )


# Candidate to what it reached; one that failed in that round is missing.
Round = Mapping[str, RoundMeasurement]


class Speedup(Ratio):
    """The ratio of `candidate` to `baseline` at equal batch size."""

    candidate: str
    baseline: str


class Confirmed(BaseModel):
    """One candidate over all of its rounds.

    Attributes:
        examples_per_s: median of the rounds.
        ci: 95 % bootstrap interval of that median.
        host_peak_mib, device_peak_mib: median; None on a CPU.
        cv: standard deviation of the rounds over their mean: the noise of host and pipeline; None
            of a single round.
        ratio: to AUTOTUNE; None for AUTOTUNE itself or without it.
    """

    model_config = ConfigDict(frozen=True)

    candidate: str
    config: PipelineConfig
    rounds: int
    examples_per_s: float
    ci: Interval
    cv: float | None
    host_peak_mib: float
    device_peak_mib: float | None
    ratio: Ratio | None
    limit: Limit | None


class Recommended(BaseModel):
    """The configuration to use, and why this one."""

    model_config = ConfigDict(frozen=True)

    candidate: str
    config: PipelineConfig
    examples_per_s: float
    ci: Interval
    host_peak_mib: float
    device_peak_mib: float | None
    reason: str


class Confirmation(BaseModel):
    """All candidates, fastest first, and what follows from them."""

    model_config = ConfigDict(frozen=True)

    candidates: list[Confirmed]
    speedup: Speedup | None
    recommended: Recommended | None

    def find(self, candidate: str) -> Confirmed | None:
        """A candidate by its name."""
        return next((c for c in self.candidates if c.candidate == candidate), None)


def conclude(
    configs: Mapping[str, PipelineConfig],
    rounds: Sequence[Round],
    *,
    cores: int,
    tolerance: float,
    memory_limit_mib: float | None = None,
) -> Confirmation:
    """What the rounds say.

    The recommended configuration is the leanest in peak memory among the tuned ones that are
    significantly faster than AUTOTUNE and within `tolerance` of the best. Where none is faster, it
    is AUTOTUNE; only where AUTOTUNE failed or is over the memory limit, it is the leanest of the
    tuned ones near the best. Before there are enough rounds nothing is recommended.
    """
    found = [_confirmed(name, config, rounds, cores) for name, config in configs.items()]
    candidates = sorted((c for c in found if c), key=lambda c: -c.examples_per_s)
    if len(rounds) < LEAST_ROUNDS:
        return Confirmation(candidates=candidates, speedup=None, recommended=None)
    tuned = [c for c in candidates if not is_baseline(c.candidate) and _fits(c, memory_limit_mib)]
    baseline = next((c for c in candidates if c.candidate == AUTOTUNE), None)
    if not tuned:
        return Confirmation(
            candidates=candidates,
            speedup=None,
            recommended=baseline and _recommend(baseline, "no tuned configuration was confirmed"),
        )
    near = [c for c in tuned if c.examples_per_s >= (1.0 - tolerance) * tuned[0].examples_per_s]
    faster = [c for c in near if c.ratio and c.ratio.verdict == "faster"]
    chosen = min(faster or near, key=memory_mib)
    if faster:
        reason = _reason(near, tolerance)
        return Confirmation(
            candidates=candidates, speedup=_speedup(chosen), recommended=_recommend(chosen, reason)
        )
    if baseline is not None and _fits(baseline, memory_limit_mib):
        recommended = _recommend(baseline, "nothing that was tuned is proven faster than AUTOTUNE")
    else:
        why = "failed" if baseline is None else "needs more than the memory limit"
        recommended = _recommend(chosen, f"AUTOTUNE {why}; {_reason(near, tolerance)}")
    return Confirmation(candidates=candidates, speedup=_speedup(tuned[0]), recommended=recommended)


def precise(configs: Mapping[str, PipelineConfig], rounds: Sequence[Round]) -> bool:
    """Whether there are enough rounds, and the best candidate's ratio is known well enough."""
    if len(rounds) < LEAST_ROUNDS:
        return False
    ratios = [
        (statistics.median(above), ratio_to(above, below))
        for name in configs
        if not is_baseline(name)
        for above, below in [shared(rounds, name, AUTOTUNE)]
        if above
    ]
    if not ratios:
        return True  # without AUTOTUNE or without a candidate more rounds say nothing more
    return max(ratios, key=lambda pair: pair[0])[1].half_width <= PRECISE_SHARE


def shared(rounds: Sequence[Round], first: str, second: str) -> tuple[list[float], list[float]]:
    """The rates of two candidates in the rounds that measured both."""
    both = [r for r in rounds if first in r and second in r]
    return [r[first].examples_per_s for r in both], [r[second].examples_per_s for r in both]


def is_baseline(candidate: str) -> bool:
    """Whether a candidate is what users write today instead of something tuned."""
    return candidate in (AUTOTUNE, NO_PREFETCH)


def memory_mib(confirmed: Confirmed) -> float:
    """Peak memory of host and device together."""
    return confirmed.host_peak_mib + (confirmed.device_peak_mib or 0.0)


def _confirmed(
    name: str, config: PipelineConfig, rounds: Sequence[Round], cores: int
) -> Confirmed | None:
    measured = [r[name] for r in rounds if name in r]
    if not measured:
        return None
    rates = [m.examples_per_s for m in measured]
    held = [m for m in measured if m.ceilings]
    device = [m.device_peak_mib for m in measured if m.device_peak_mib is not None]
    above, below = shared(rounds, name, AUTOTUNE)
    return Confirmed(
        candidate=name,
        config=config,
        rounds=len(rates),
        examples_per_s=statistics.median(rates),
        ci=interval_of((rates,), np.median),
        cv=variation(rates) if len(rates) > 1 else None,
        host_peak_mib=statistics.median(m.host_peak_mib for m in measured),
        device_peak_mib=statistics.median(device) if device else None,
        ratio=ratio_to(above, below) if above and name != AUTOTUNE else None,
        limit=limit(
            [m.examples_per_s for m in held],
            [m.ceilings for m in held if m.ceilings],
            [m.cpu_s_per_example for m in held],
            [m.wait_fraction for m in held],
            cores,
        ),
    )


def _fits(confirmed: Confirmed, memory_limit_mib: float | None) -> bool:
    return memory_limit_mib is None or confirmed.host_peak_mib <= memory_limit_mib


def _reason(near: Sequence[Confirmed], tolerance: float) -> str:
    if len(near) == 1:
        return "the fastest confirmed"
    return f"the leanest of {len(near)} within {100 * tolerance:g} % of the fastest confirmed"


def _speedup(confirmed: Confirmed) -> Speedup | None:
    ratio = confirmed.ratio
    if ratio is None:
        return None
    return Speedup(**dict(ratio), candidate=confirmed.candidate, baseline=AUTOTUNE)


def _recommend(confirmed: Confirmed, reason: str) -> Recommended:
    return Recommended(
        candidate=confirmed.candidate,
        config=confirmed.config,
        examples_per_s=confirmed.examples_per_s,
        ci=confirmed.ci,
        host_peak_mib=confirmed.host_peak_mib,
        device_peak_mib=confirmed.device_peak_mib,
        reason=reason,
    )
