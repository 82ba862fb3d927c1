"""What the candidates of a confirmation are called, and what they reached in its rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from prefetch_tuning.objectives.measurement import (
    Ceilings,
    Interval,
    LimitTerms,
    Measurement,
)
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


class MeasuredLimit(BaseModel):
    """The limit's terms of one round, and the MLflow run that has them."""

    model_config = ConfigDict(frozen=True)

    terms: LimitTerms
    mlflow_run_id: str


class MeasuredRound(BaseModel):
    """One whole round: what each candidate reached, the limit's terms, and the seconds it took."""

    model_config = ConfigDict(frozen=True)

    measured: dict[str, RoundMeasurement]
    limit: MeasuredLimit | None = None
    seconds: float

    @property
    def run_ids(self) -> list[str]:
        """The MLflow runs of all that it measured."""
        found = [measured.mlflow_run_id for measured in self.measured.values()]
        return found + ([self.limit.mlflow_run_id] if self.limit else [])

    @property
    def throttled(self) -> list[str]:
        """What held the GPU back while any of it was measured, in NVML's words."""
        found = {event for measured in self.measured.values() for event in measured.throttled}
        if self.limit is not None and self.limit.terms.gpu is not None:
            found.update(self.limit.terms.gpu.throttled)
        return sorted(found)


class PlainData(BaseModel):
    """The plain chain's first batches, which every candidate's are compared with.

    Attributes:
        each_batch: a short digest of each; empty where the check is off.
        why_not: why the check is off; None where it is on.
    """

    model_config = ConfigDict(frozen=True)

    each_batch: list[str] = []
    why_not: str | None = None

    @property
    def checked(self) -> bool:
        """Whether candidates are compared."""
        return self.why_not is None
