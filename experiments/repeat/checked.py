"""What a check compares, and what it found."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from prefetch_tuning.experiments.settings import TRIAL_TIMEOUT_S
from prefetch_tuning.experiments.verdict.equivalence import Equivalence
from prefetch_tuning.objectives.spec import Device, StopRule, TrialSpec
from prefetch_tuning.pipelines.chain.blocks import LEAST_TO_CHECK, batches_to_check
from prefetch_tuning.pipelines.config import PipelineConfig

Side = Literal["checked", "reference"]
Outcome = Literal["not slower", "slower", "failed", "undecided"]
SIDES: tuple[Side, Side] = ("checked", "reference")
# In these rounds, both sides read as many batches as the check of the data needs. Two readings of
# the reference tell whether it repeats its own data.
DATA_ROUNDS = 2


class CheckOptions(BaseModel):
    """How a check measures.

    Attributes:
        margin: share by which the checked rate may be lower.
        time_s: seconds for the rounds; no further round begins if it would take longer.
        trial_timeout_s: seconds after which a measurement of usual length is killed.
    """

    model_config = ConfigDict(frozen=True)

    target: str
    margin: float
    time_s: float
    seed: int = 0
    device: Device = "auto"
    stop: StopRule = StopRule()
    trial_timeout_s: float = TRIAL_TIMEOUT_S


class CheckRequest(CheckOptions):
    """What to compare, and how.

    Attributes:
        source, against: the checked configuration and the reference, as messages name them.
    """

    source: str
    against: str
    configs: dict[Side, PipelineConfig]

    def spec(self, side: Side, number: int) -> TrialSpec:
        """How one side is measured in round `number`."""
        to_check = max(batches_to_check(config) for config in self.configs.values())
        return TrialSpec(
            pipeline=self.target,
            config=self.configs[side],
            seed=self.seed,
            device=self.device,
            stop=self.stop,
            deadline_s=self.stop.deadline_s(self.trial_timeout_s),
            digest_batches=to_check if number < DATA_ROUNDS else LEAST_TO_CHECK,
        )


class Check(BaseModel):
    """The result of a check.

    Attributes:
        outcome: "failed" if the checked configuration failed in two rounds.
        found: what the rounds say; None if there was none in which both were measured.
        examples_per_s: median rate of each side over these rounds.
        rates: both sides' rates in each of these rounds, in order.
        data_checked: whether both were found to read the same data; False if the reference's own
            data differs from run to run or was read only once, or if one of them may change the
            order of its elements.
        failures: a line for each measurement that failed.
        problems: a line for each thing that disturbs this host.
        wall_s: seconds that the rounds took.
    """

    pipeline: str
    request: CheckRequest
    outcome: Outcome
    found: Equivalence | None
    examples_per_s: dict[Side, float]
    rates: dict[Side, list[float]]
    data_checked: bool
    failures: list[str]
    problems: list[str]
    wall_s: float
