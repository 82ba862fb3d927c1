"""What the candidates of a confirmation are called, and what they reached in its rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from prefetch_tuning.objectives.measurement import Ceilings, Interval, Measurement
from prefetch_tuning.pipelines.config import PipelineConfig

# What the search nominated, by rank.
TUNED = "tuned-"
# What users write today: with AUTOTUNE on the plain chain, and without any look-ahead.
AUTOTUNE, NO_PREFETCH = "autotune", "no_prefetch"
# The winner's structure with AUTOTUNE for the map's calls and the prefetch buffer.
STRUCTURE_AUTOTUNE = "structure_autotune"
# The best plain chain, where the structure was searched, too.
BASIC = "basic"
# The terms of the limit, measured in every round like a candidate.
LIMIT = "limit"
# A candidate that failed so often is left out of the rounds that follow.
PATIENCE = 2


class Reached(BaseModel):
    """A configuration and what it reached, in one trial or over rounds.

    Attributes:
        ci: 95 % interval of `examples_per_s`.
        host_peak_mib: peak resident memory that it added.
        device_peak_mib: the same on the GPU; None on a CPU.
    """

    model_config = ConfigDict(frozen=True)

    config: PipelineConfig
    examples_per_s: float
    ci: Interval
    host_peak_mib: float
    device_peak_mib: float | None


class RoundMeasurement(BaseModel):
    """What one candidate reached in one round.

    Attributes:
        each_batch: short digests of its first batches, to compare with the plain chain's.
        throttled: what held the GPU back meanwhile, in NVML's words.
    """

    model_config = ConfigDict(frozen=True)

    examples_per_s: float
    host_peak_mib: float
    device_peak_mib: float | None
    cpu_s_per_example: float
    wait_fraction: float
    first_batch_s: float = 0.0
    ceilings: Ceilings | None
    each_batch: list[str] = []
    throttled: list[str] = []
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
            first_batch_s=measured.first_batch_s,
            ceilings=measured.ceilings,
            each_batch=measured.digest.each_batch,
            throttled=measured.gpu.throttled if measured.gpu else [],
            mlflow_run_id=run_id,
        )


# Candidate to what it reached; one that failed in that round, or had left, is missing.
Round = Mapping[str, RoundMeasurement]


def shared(rounds: Sequence[Round], first: str, second: str) -> tuple[list[float], list[float]]:
    """The rates of two candidates in the rounds that measured both."""
    both = [r for r in rounds if first in r and second in r]
    return [r[first].examples_per_s for r in both], [r[second].examples_per_s for r in both]


def is_baseline(candidate: str) -> bool:
    """Whether a candidate is what users write today instead of something that was found."""
    return candidate in (AUTOTUNE, NO_PREFETCH)


def baseline_failures(rounds: Sequence[Round]) -> int:
    """Rounds without a rate of AUTOTUNE: it failed, or had failed too often to be tried again."""
    return sum(AUTOTUNE not in measured for measured in rounds)
