"""The names of a confirmation's candidates, and what they reached in its rounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from prefetch_tuning.experiments.verdict.rates import Rates
from prefetch_tuning.objectives.measurement import (
    Ceilings,
    Interval,
    LimitTerms,
    Measurement,
)
from prefetch_tuning.objectives.objective import Reading
from prefetch_tuning.pipelines.config import PipelineConfig

# The search's nominees, followed by their rank.
TUNED = "tuned-"
BEST = f"{TUNED}1"
# What users write today: AUTOTUNE on the plain chain, and a chain without prefetch.
AUTOTUNE, NO_PREFETCH = "autotune", "no_prefetch"
# The best nominee's structure, with AUTOTUNE for the map's calls and the prefetch buffer.
STRUCTURE_AUTOTUNE = "structure_autotune"
# The best plain chain, if the structure was also searched.
BASIC = "basic"
# The best nominee with its elements in order, if calls of its map may overtake each other.
ORDERED = "ordered"
# A script's own chain, as it was written; it may be recommended like any nominee.
AS_WRITTEN = "as_written"
# The terms of the limit, which every round measures like a candidate.
LIMIT = "limit"
# After this many failures, a candidate is left out of the following rounds.
PATIENCE = 2


class Reached(BaseModel):
    """A configuration and what it reached, in one trial or over rounds.

    Attributes:
        ci: 95% interval of `examples_per_s`.
        host_peak_mib: peak resident memory that the pipeline added.
        device_peak_mib: peak memory on the GPU; None on a CPU.
        cpu_s_per_example: CPU seconds of the whole process tree per example.
    """

    model_config = ConfigDict(frozen=True)

    config: PipelineConfig
    examples_per_s: float
    ci: Interval
    host_peak_mib: float
    device_peak_mib: float | None
    cpu_s_per_example: float = 0.0

    @property
    def memory_mib(self) -> float:
        """Peak memory of host and device together."""
        return self.host_peak_mib + (self.device_peak_mib or 0.0)

    def reading(self, step_examples_per_s: float) -> Reading:
        """What an objective judges, given the rate of the step on ready batches."""
        return Reading(
            self.config,
            self.examples_per_s,
            self.cpu_s_per_example,
            step_examples_per_s,
            self.host_peak_mib,
        )


class RoundMeasurement(BaseModel):
    """What one candidate reached in one round.

    Attributes:
        each_batch: short digests of the first batches, to compare with the plain chain's.
        throttled: what slowed the GPU down meanwhile, in NVML's words.
        node: the cluster's node that measured; None without a cluster.
    """

    model_config = ConfigDict(frozen=True)

    examples_per_s: float
    host_peak_mib: float
    device_peak_mib: float | None
    cpu_s_per_example: float
    # Version 0.1 stored it as `wait_fraction`.
    host_wait_fraction: float = Field(
        validation_alias=AliasChoices("host_wait_fraction", "wait_fraction")
    )
    first_batch_s: float = 0.0
    ceilings: Ceilings | None
    each_batch: list[str] = []
    throttled: list[str] = []
    node: str | None = None
    mlflow_run_id: str

    @property
    def memory_mib(self) -> float:
        """Peak memory of host and device together."""
        return self.host_peak_mib + (self.device_peak_mib or 0.0)

    def reading(self, config: PipelineConfig, step_examples_per_s: float) -> Reading:
        """What an objective judges, given the rate of the step on ready batches."""
        return Reading(
            config,
            self.examples_per_s,
            self.cpu_s_per_example,
            step_examples_per_s,
            self.host_peak_mib,
        )

    @classmethod
    def of(cls, measured: Measurement, run_id: str) -> RoundMeasurement:
        """Takes the part of a measurement that a verdict needs."""
        return cls(
            examples_per_s=measured.examples_per_s,
            host_peak_mib=measured.host_peak_mib,
            device_peak_mib=measured.device_peak_mib,
            cpu_s_per_example=measured.cpu_seconds_per_1k_examples / 1_000.0,
            host_wait_fraction=measured.host_wait_fraction,
            first_batch_s=measured.first_batch_s,
            ceilings=measured.ceilings,
            each_batch=measured.digest.each_batch,
            throttled=measured.gpu.throttled if measured.gpu else [],
            node=measured.node,
            mlflow_run_id=run_id,
        )


# Maps a candidate to what it reached. One that failed in the round, or left before, is missing.
Round = Mapping[str, RoundMeasurement]


def shared(rounds: Sequence[Round], first: str, second: str) -> tuple[Rates, Rates]:
    """The rates of two candidates in the rounds that measured both."""
    both = [r for r in rounds if first in r and second in r]
    return rates_of(both, first), rates_of(both, second)


def rates_of(rounds: Sequence[Round], name: str) -> Rates:
    """The rates of a candidate in the rounds that measured it, and their nodes on a cluster."""
    return Rates((r[name].examples_per_s for r in rounds if name in r), nodes_of(rounds, name))


def nodes_of(rounds: Sequence[Round], name: str) -> list[str]:
    """The cluster's node of each round that measured a candidate; empty without a cluster."""
    nodes = [r[name].node for r in rounds if name in r]
    return [] if None in nodes else [str(node) for node in nodes]


def is_baseline(candidate: str) -> bool:
    """Whether a candidate is what users write today, not a result of the search."""
    return candidate in (AUTOTUNE, NO_PREFETCH)


def baseline_failures(rounds: Sequence[Round]) -> int:
    """Rounds without a rate of AUTOTUNE: it failed, or was left out after failing too often."""
    return sum(AUTOTUNE not in measured for measured in rounds)


class MeasuredLimit(BaseModel):
    """The limit's terms in one round, and the MLflow run that logged them."""

    model_config = ConfigDict(frozen=True)

    terms: LimitTerms
    mlflow_run_id: str


class MeasuredRound(BaseModel):
    """One complete round: what each candidate reached, the limit's terms, and its duration."""

    model_config = ConfigDict(frozen=True)

    measured: dict[str, RoundMeasurement]
    limit: MeasuredLimit | None = None
    seconds: float

    @property
    def run_ids(self) -> list[str]:
        """The MLflow runs of everything that the round measured."""
        found = [measured.mlflow_run_id for measured in self.measured.values()]
        return found + ([self.limit.mlflow_run_id] if self.limit else [])

    @property
    def throttled(self) -> list[str]:
        """What slowed the GPU down during any of the round's measurements, in NVML's words."""
        found = {event for measured in self.measured.values() for event in measured.throttled}
        if self.limit is not None and self.limit.terms.gpu is not None:
            found.update(self.limit.terms.gpu.throttled)
        return sorted(found)


def common_batches(first: Sequence[str], second: Sequence[str]) -> list[str] | None:
    """The batches that two runs of the plain chain have in common, as far as both went.

    Args:
        first: digests of the batches of one run, in order.
        second: digests of another run, which may have ended earlier or later.

    Returns:
        The digests to compare every configuration with; None if the plain chain doesn't repeat its
        own data, because different data then say nothing about a configuration.
    """
    both = min(len(first), len(second))
    return list(first[:both]) if same_batches(first, second) else None


def same_batches(reference: Sequence[str], each_batch: Sequence[str]) -> bool:
    """Whether all batches that both have are the same; also true with nothing to compare."""
    return all(a == b for a, b in zip(reference, each_batch, strict=False))


def comes_from(reference: Sequence[str], elements: Sequence[str], ahead: int) -> bool | None:
    """Whether elements are the reference's, in whatever order calls of a map end.

    Args:
        reference: digests of the plain chain's first elements.
        elements: digests of the first elements of another chain.
        ahead: how many elements can have been begun beyond those that were delivered: the calls in
            flight. So the first ones are among so many more of the reference's.

    Returns:
        None if the reference has too few elements to tell.
    """
    compared = min(len(elements), len(reference) - ahead)
    if compared <= 0:
        return None
    return not Counter(elements[:compared]) - Counter(reference[: compared + ahead])


class PlainData(BaseModel):
    """The plain chain's first batches, to compare every candidate's batches with.

    Attributes:
        each_batch: a short digest of each batch; empty if the check is off.
        stages: how many transformations of the chain were compared, because the next one draws
            random numbers; None if all were.
        uncompared: candidates whose order may differ and that could not be compared.
        why_not: why the check is off; None if it is on.
    """

    model_config = ConfigDict(frozen=True)

    each_batch: list[str] = []
    stages: int | None = None
    uncompared: list[str] = []
    why_not: str | None = None

    @property
    def checked(self) -> bool:
        """Whether candidates are compared."""
        return self.why_not is None
