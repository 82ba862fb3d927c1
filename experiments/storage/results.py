"""What a tuning run found, a pipeline each: the shape of `--json`, and what a report needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from prefetch_tuning.experiments.errors import UsageError
from prefetch_tuning.experiments.search.diagnosis import Diagnosis
from prefetch_tuning.experiments.verdict.confirmation import Gain, Speedup
from prefetch_tuning.experiments.verdict.confirmed import Confirmed
from prefetch_tuning.experiments.verdict.limit import Fraction, Limit
from prefetch_tuning.experiments.verdict.measurements import Reached
from prefetch_tuning.experiments.verdict.recommendation import Recommended
from prefetch_tuning.objectives.measurement import (
    Measurement,
    PipelineInfo,
    TrialFailure,
)
from prefetch_tuning.pipelines.config import PipelineConfig

# Models within lists and dicts, too.
ANYTHING = TypeAdapter(Any)

State = Literal["complete", "infeasible", "pruned", "failed", "interrupted"]


class TrialCounts(BaseModel):
    """How the trials of a study ended.

    `infeasible` ones completed over the memory limit, or ran out of the GPU's memory.
    """

    complete: int = 0
    pruned: int = 0
    failed: int = 0
    infeasible: int = 0

    @property
    def total(self) -> int:
        return self.complete + self.pruned + self.failed + self.infeasible


class MeasuredConfig(Reached):
    """A configuration and what it reached in one trial, without its windows.

    Attributes:
        mlflow_run_id: the run that has the rest.
    """

    host_speed_index: float
    measured_s: float
    mlflow_run_id: str

    @classmethod
    def of(cls, config: PipelineConfig, measured: Measurement, run_id: str) -> MeasuredConfig:
        """The summary of one measurement that was logged as MLflow run `run_id`."""
        return cls(
            config=config,
            examples_per_s=measured.examples_per_s,
            ci=measured.ci,
            host_peak_mib=measured.host_peak_mib,
            device_peak_mib=measured.device_peak_mib,
            host_speed_index=measured.host_speed_index,
            measured_s=measured.measured_s,
            mlflow_run_id=run_id,
        )


class TrialRow(BaseModel):
    """One trial of the search as it ended.

    Attributes:
        predicted_examples_per_s: what the stages' costs let one expect; None without a diagnosis.
        warm_start: it was chosen by that prediction instead of by the sampler.
        corrected: the prediction that chose it had been corrected by earlier trials.
    """

    model_config = ConfigDict(frozen=True)

    number: int
    config: PipelineConfig
    state: State
    measured: MeasuredConfig | None = None
    failure: TrialFailure | None = None
    predicted_examples_per_s: float | None = None
    warm_start: bool = False
    corrected: bool = False


class StudyResult(BaseModel):
    """One pipeline's entry of `--json`.

    Attributes:
        best: the fastest feasible complete trial: the search's nominee, luck included.
        baselines: what users write today, over the confirmation's rounds.
        diagnosis: None where the stages could not be measured.
        limit: of the pipeline at the confirmed batch size, the same for every candidate.
        fraction: of the limit that the recommended configuration reached.
        confirmation: every candidate, fastest first; empty where there was no confirmation.
        speedup: over AUTOTUNE at the same batch size; None without a confirmation.
        gain: what the speedup consists of; None where no structure was found.
        baseline_failures: rounds in which AUTOTUNE failed.
        data_checked: the batches of every candidate were compared with the plain chain's; None
            before a confirmation.
        other_data: candidates that read other data than the plain chain.
        recommended: None without a confirmation.
        measured_s: seconds of training steps on measured iterators in this run.
        wall_s: seconds that this run spent on the pipeline, start-up and bookkeeping included.
    """

    pipeline: str
    device: str
    study: str
    mlflow_run_id: str
    trials: TrialCounts
    baselines: dict[str, Confirmed]
    best: MeasuredConfig | None
    diagnosis: Diagnosis | None
    limit: Limit | None
    fraction: Fraction | None = None
    confirmation: list[Confirmed]
    speedup: Speedup | None
    gain: Gain | None = None
    baseline_failures: int = 0
    data_checked: bool | None = None
    data_batches: int = 0
    other_data: list[str] = []
    recommended: Recommended | None
    measured_s: float
    wall_s: float


class StudyRecord(BaseModel):
    """All that a report is made of.

    Attributes:
        info: what was found out about the pipeline before the search.
        host: the machine, in words.
        versions: of Python and the libraries that matter.
        trials: those that ended on their own, in order.
        searched: the axes with their ranges.
        left_out: structural axes that were not searched, and why.
        importance: share of the variation that each searched axis explains; empty where too few
            trials completed to tell.
    """

    result: StudyResult
    info: PipelineInfo
    host: str
    versions: dict[str, str]
    seed: int
    trials: list[TrialRow]
    importance: dict[str, float]
    searched: list[str] = []
    left_out: dict[str, str] = {}


def write_json(document: object, path: Path) -> None:
    """Writes models, or lists or dicts of them, whole or not at all: a reader never sees half.

    Raises:
        UsageError: the file cannot be written.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_bytes(ANYTHING.dump_json(document, indent=2, by_alias=True) + b"\n")
        temporary.replace(path)
    except OSError as error:
        raise UsageError(f"cannot write --json {path}: {error.strerror}") from error


class Offered(BaseModel):
    """What was searched, in words: a later version may offer other axes.

    Attributes:
        searched: the axes with their ranges.
        left_out: structural axes that were not searched, and why.
    """

    model_config = ConfigDict(frozen=True)

    searched: list[str]
    left_out: dict[str, str]
