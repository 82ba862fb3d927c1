"""Results of a tuning run, one entry per pipeline: the format of `--json` and a report's input."""

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
from prefetch_tuning.objectives.measurement import Measurement, TrialFailure
from prefetch_tuning.objectives.pipeline_info import PipelineInfo
from prefetch_tuning.pipelines.config import PipelineConfig

# Also serialises models inside lists and dicts.
ANYTHING = TypeAdapter(Any)

State = Literal["complete", "infeasible", "pruned", "failed", "interrupted"]


class TrialCounts(BaseModel):
    """Number of trials of a study per final state.

    `infeasible` trials completed over the memory limit or ran out of GPU memory.
    """

    complete: int = 0
    pruned: int = 0
    failed: int = 0
    infeasible: int = 0

    @property
    def total(self) -> int:
        return self.complete + self.pruned + self.failed + self.infeasible


class MeasuredConfig(Reached):
    """A configuration and what one trial of it measured, without the windows.

    Attributes:
        host_speed_index: the host's own speed around the trial; 1.0 is the reference machine.
        measured_s: seconds spent on measuring.
        mlflow_run_id: the MLflow run with the full measurement.
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
            cpu_s_per_example=measured.cpu_seconds_per_1k_examples / 1_000.0,
            host_speed_index=measured.host_speed_index,
            measured_s=measured.measured_s,
            mlflow_run_id=run_id,
        )


class TrialRow(BaseModel):
    """One finished trial of the search.

    Attributes:
        predicted_examples_per_s: the rate predicted from the stages' costs; None without a
            diagnosis.
        warm_start: the prediction chose this trial, not the sampler.
    """

    model_config = ConfigDict(frozen=True)

    number: int
    config: PipelineConfig
    state: State
    measured: MeasuredConfig | None = None
    failure: TrialFailure | None = None
    predicted_examples_per_s: float | None = None
    warm_start: bool = False

    @property
    def batch_size_lacked_memory(self) -> bool:
        """Whether its batch size needs more memory than the GPU has.

        With batches copied ahead, it may have been those.
        """
        lacked = self.failure is not None and self.failure.kind == "device_oom"
        return lacked and not self.config.device_prefetch


class StudyResult(BaseModel):
    """One pipeline's entry in `--json`.

    Attributes:
        objective: what was optimised.
        target: the utilisation to reach; None for an objective without a target.
        best: the best feasible complete trial. The search nominates it, so its rate is partly luck.
        baselines: what users write today, measured over the confirmation's rounds.
        diagnosis: what limits the pipeline; None if the stages could not be measured.
        limit: the pipeline's limit at the confirmed batch size, the same for every candidate.
        fraction: share of the limit that the recommended configuration reached.
        utilisation: its rate as a share of the step's rate on ready batches.
        confirmation: every candidate, fastest first; empty without a confirmation.
        speedup: ratio to AUTOTUNE at the same batch size; None without a confirmation.
        over_written: ratio to the script's own chain; None if there is none, or it is recommended.
        gain: how structure and settings contribute to the speedup; None if no structure was found.
        baseline_failures: rounds in which AUTOTUNE failed.
        data_checked: whether each candidate's batches were compared with the plain chain's; None
            before a confirmation.
        data_batches: batches of the plain chain that were available for this comparison.
        data_stages: the transformations up to which they were compared; None if all were.
        data_uncompared: candidates whose order may differ and that could not be compared.
        other_data: candidates whose data differs from the plain chain's, and configurations that
            were candidates before.
        recommended: the configuration to use; None without a confirmation.
        measured_s: seconds in which this run ran what it measures: stages, trials and rounds, from
            the start of each iterator, and a first measurement that is discarded.
        wall_s: seconds that this run spent on the pipeline, including start-up and bookkeeping.
    """

    pipeline: str
    objective: str = "throughput"
    target: float | None = None
    device: str
    study: str
    mlflow_run_id: str
    trials: TrialCounts
    baselines: dict[str, Confirmed]
    best: MeasuredConfig | None
    diagnosis: Diagnosis | None
    limit: Limit | None
    fraction: Fraction | None = None
    utilisation: Fraction | None = None
    confirmation: list[Confirmed]
    speedup: Speedup | None
    over_written: Speedup | None = None
    gain: Gain | None = None
    baseline_failures: int = 0
    data_checked: bool | None = None
    data_batches: int = 0
    data_stages: int | None = None
    data_uncompared: list[str] = []
    other_data: list[str] = []
    recommended: Recommended | None
    measured_s: float
    wall_s: float


class StudyRecord(BaseModel):
    """Everything that a report is made from.

    Attributes:
        info: the pipeline as inspected before the search.
        host: description of the machine.
        versions: versions of Python and the main libraries.
        server_mib: memory of a process that has imported TensorFlow; None if not measured.
        trials: those that ended on their own, in order.
        searched: the axes with their ranges.
        left_out: structural axes that were not searched, and why.
        importance: share of the variation that each searched axis explains; empty if too few
            trials completed to estimate it.
    """

    result: StudyResult
    info: PipelineInfo
    host: str
    versions: dict[str, str]
    server_mib: float | None = None
    seed: int
    trials: list[TrialRow]
    importance: dict[str, float]
    searched: list[str] = []
    left_out: dict[str, str] = {}


def write_json(document: object, path: Path) -> None:
    """Writes models, or lists or dicts of them, atomically: a reader never sees a partial file.

    Raises:
        UsageError: the file cannot be written.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_bytes(ANYTHING.dump_json(document, indent=2, by_alias=True) + b"\n")
        temporary.replace(path)
    except OSError as error:
        raise UsageError(f"cannot write --json {path}: {error.strerror}") from error


class Summary(BaseModel):
    """A study in one line of a list, as its latest run left it.

    Attributes:
        verdict: the recommended configuration against AUTOTUNE; "none" without a confirmation.
        recommended: the recommended configuration; None if nothing is recommended.
    """

    model_config = ConfigDict(frozen=True)

    trials: int
    verdict: str
    recommended: str | None

    @classmethod
    def of(cls, result: StudyResult) -> Summary:
        """The summary of a result."""
        chosen = result.recommended
        return cls(
            trials=result.trials.total,
            verdict=result.speedup.verdict if result.speedup else "none",
            recommended=str(chosen.config) if chosen else None,
        )


class Offered(BaseModel):
    """The searched axes in words, because a later version may offer other axes.

    Attributes:
        searched: the axes with their ranges.
        left_out: structural axes that were not searched, and why.
    """

    model_config = ConfigDict(frozen=True)

    searched: list[str]
    left_out: dict[str, str]
