"""What a tuning run found, a pipeline each: the shape of `--json` and of the closing table."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter

from objectives.measurement import Interval, Measurement
from pipelines.config import PipelineConfig


class TrialCounts(BaseModel):
    """How the trials of a study ended; `infeasible` ones completed over the memory limit."""

    complete: int = 0
    pruned: int = 0
    failed: int = 0
    infeasible: int = 0

    @property
    def total(self) -> int:
        return self.complete + self.pruned + self.failed + self.infeasible


class MeasuredConfig(BaseModel):
    """A configuration and what it reached, without its windows.

    Attributes:
        ci: 95 % interval of `examples_per_s` within that one trial.
        device_peak_mib: None on a CPU.
        mlflow_run_id: the run that has the rest.
    """

    model_config = ConfigDict(frozen=True)

    config: PipelineConfig
    examples_per_s: float
    ci: Interval
    host_peak_mib: float
    device_peak_mib: float | None
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


class StudyResult(BaseModel):
    """One pipeline's entry of `--json`.

    Attributes:
        best: the fastest feasible complete trial: the search's nominee, luck included.
        baselines: what users write today, measured at the batch size of `best`.
        measured_s: seconds of training steps on measured iterators in this run.
        wall_s: seconds that this run spent on the pipeline, start-up and bookkeeping included.
    """

    pipeline: str
    device: str
    study: str
    mlflow_run_id: str
    trials: TrialCounts
    baselines: dict[str, MeasuredConfig]
    best: MeasuredConfig | None
    measured_s: float
    wall_s: float


def write_json(results: list[StudyResult], path: Path) -> None:
    """Writes the list whole or not at all: a reader never sees half a file."""
    document = TypeAdapter(list[StudyResult]).dump_json(results, indent=2)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(document + b"\n")
    temporary.replace(path)
