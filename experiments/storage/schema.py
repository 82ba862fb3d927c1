"""What is logged to MLflow, by name: kinds of runs, tags, and metrics with their units.

Parameters are the fields of `TrialSpec` and `PipelineConfig`. What Optuna's storage keeps beside a
study's trials is named in `attributes.py`, and nowhere else.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from prefetch_tuning.objectives.measurement import LimitTerms, Measurement


class Kind(StrEnum):
    """What a run is: the value of the tag `kind`."""

    STUDY = "study"
    TRIAL = "trial"
    CONFIRMATION = "confirmation"
    LIMIT = "limit"
    RERUN = "rerun"
    SELFTEST = "selftest"


class Tag(StrEnum):
    """The tags of runs, beside those that say where they were measured (`host/environment.py`)."""

    # MLflow's own: children are grouped under their parent, and a note stands beside a run.
    PARENT = "mlflow.parentRunId"
    NOTE = "mlflow.note.content"
    # Of every run.
    KIND = "kind"
    STATE = "state"  # how it ended, in this project's words
    STUDY = "study"
    PIPELINE = "pipeline"
    SOURCE_DIGEST = "pipeline.source_digest"
    DEVICE = "device"
    SEED = "seed"
    VERSION = "version.prefetch-tuning"  # and so on for what else was measured with
    # Of trials, rounds and reruns.
    TRIAL_NUMBER = "trial_number"
    WARM_START = "warm_start"  # chosen by the prediction
    CANDIDATE = "candidate"
    ROUND = "round"
    BASELINE = "baseline"
    RERUN_OF = "rerun_of"
    FAILURE_KIND = "failure.kind"
    FAILURE_DETAIL = "failure.detail"
    ELEMENTS_DIGEST = "digest.elements"
    BATCHES_DIGEST = "digest.batches"
    GPU_THROTTLED = "gpu_throttled"  # what held the GPU back while it was measured
    THROTTLED = "throttled"  # the same of a round that was measured again
    # Of a study.
    VERDICT = "verdict"
    BEST_CONFIG = "best.config"
    BEST_RUN = "best.run_id"
    RECOMMENDED = "recommended.candidate"
    RECOMMENDED_CONFIG = "recommended.config"
    DIAGNOSIS_CLASS = "diagnosis.class"
    DIAGNOSIS_STAGE = "diagnosis.stage"
    BINDING = "limit.binding"


class Metric(NamedTuple):
    """What a metric is measured in, and what it means."""

    unit: str
    meaning: str


# Of one trial or round. A name in capitals stands for several.
TRIAL_METRICS = {
    "throughput/examples_per_s": Metric("examples/s", "of training steps, start-up left out"),
    "throughput/ci_low": Metric("examples/s", "lower end of the 95 % interval within the trial"),
    "throughput/ci_high": Metric("examples/s", "its upper end"),
    "throughput/window_examples_per_s": Metric("examples/s", "each window, as a series"),
    "throughput/steps_per_s": Metric("steps/s", "of training steps, start-up left out"),
    "input/wait_fraction": Metric("0 to 1", "share of the time in which the step waited for data"),
    "step/p50_ms": Metric("ms", "median time of a whole step, its wait included"),
    "step/p95_ms": Metric("ms", "the same for all but the slowest twentieth"),
    "cpu/seconds_per_1k_examples": Metric("CPU s", "of the trial's process and its children"),
    "cpu/utilisation": Metric("0 to 1", "share of the cores that the trial kept busy"),
    "first_batch_s": Metric("s", "from the start of the iterator until its first batch"),
    "memory/host_peak_mib": Metric("MiB", "peak resident memory that the trial added"),
    "memory/device_peak_mib": Metric("MiB", "on a GPU: peak of TensorFlow's allocator"),
    "memory/device_used_mib": Metric("MiB", "on a GPU: peak of the whole device, by NVML"),
    "memory/buffer_mib": Metric("MiB", "what the chain's buffers hold when full"),
    "accelerator/nvml_utilisation": Metric("0 to 1", "on a GPU: mean over the trial, by NVML"),
    "accelerator/sm_clock_mhz": Metric("MHz", "on a GPU: median over the trial, by NVML"),
    "host/speed_index": Metric("ratio", "the host's own speed beside the trial; it drifts"),
    "generator/restarts": Metric("count", "new starts of a finite generator"),
    "generator/skipped_elements": Metric("count", "faulty elements that were left out"),
    "measurement/startup_s": Metric("s", "that were skipped before the first window"),
    "measurement/measured_s": Metric("s", "that measuring took"),
    "measurement/windows": Metric("count", "that the rate is made of"),
    "measurement/settled": Metric("0 or 1", "0 where the rate still drifted at the end"),
    "train/loss": Metric("loss", "of the last step"),
    "ceiling/producer_only": Metric("examples/s", "what the chain makes without the step"),
    "prediction/examples_per_s": Metric("examples/s", "what the diagnosis predicted"),
    "prediction/error": Metric("share", "by how much the prediction was off"),
    "autotune/NODE/PARAMETER": Metric("", "what AUTOTUNE had chosen"),
}
# Of the limit's terms in one round.
LIMIT_METRICS = {
    "limit/step": Metric("examples/s", "the step on batches that lie ready"),
    "limit/step_cores": Metric("cores", "that the step keeps busy by itself"),
    "limit/generator": Metric("examples/s", "the bare generator in one process"),
    "limit/generator_cpu_us": Metric("µs", "least CPU time of an example in the generator"),
    "limit/map_cpu_us": Metric("µs", "least CPU time of an example in the map"),
    "limit/step_cpu_us": Metric("µs", "least CPU time of an example in the step"),
    "measurement/measured_s": Metric("s", "that measuring took"),
}
# Of a study's parent run; of what is recommended, else of the search's best.
STUDY_METRICS = {
    "throughput/examples_per_s": Metric("examples/s", "median of the rounds"),
    "throughput/ci_low": Metric("examples/s", "lower end of its 95 % interval"),
    "throughput/ci_high": Metric("examples/s", "its upper end"),
    "memory/host_peak_mib": Metric("MiB", "median of the rounds"),
    "memory/device_peak_mib": Metric("MiB", "on a GPU: median of the rounds"),
    "trials/STATE": Metric("count", "trials that ended so"),
    "study/measured_s": Metric("s", "of measuring"),
    "study/wall_s": Metric("s", "in all"),
    "limit/examples_per_s": Metric("examples/s", "the limit"),
    "limit/TERM": Metric("examples/s", "what each of its terms allows"),
    "limit/fraction": Metric("0 to 1", "share of the limit that was reached"),
    "limit/fraction_ci_low": Metric("0 to 1", "lower end of its 95 % interval"),
    "limit/fraction_ci_high": Metric("0 to 1", "its upper end"),
    "speedup/ratio": Metric("ratio", "to AUTOTUNE at the same batch size"),
    "speedup/ci_low": Metric("ratio", "lower end of its 95 % interval"),
    "speedup/ci_high": Metric("ratio", "its upper end"),
    "gain/PART/ratio": Metric("ratio", "of the structure with AUTOTUNE on it; of fixed settings"),
    "gain/PART/ci_low": Metric("ratio", "lower end of its 95 % interval"),
    "gain/PART/ci_high": Metric("ratio", "its upper end"),
    "confirmation/CANDIDATE/examples_per_s": Metric("examples/s", "median of the rounds"),
    "confirmation/CANDIDATE/ci_low": Metric("examples/s", "lower end of its 95 % interval"),
    "confirmation/CANDIDATE/ci_high": Metric("examples/s", "its upper end"),
    "confirmation/CANDIDATE/rounds": Metric("count", "rounds that measured it"),
    "confirmation/CANDIDATE/cv": Metric(
        "share", "standard deviation of the rounds over their mean"
    ),
    "confirmation/CANDIDATE/limit_fraction": Metric("0 to 1", "share of the limit"),
    "diagnosis/STAGE/wall_us": Metric("µs", "wall time of an example in each stage"),
    "diagnosis/STAGE/cpu_us": Metric("µs", "CPU time of an example in each stage"),
    "diagnosis/step_ms/BATCH": Metric("ms", "a step at each batch size"),
    "diagnosis/map_speedup": Metric("ratio", "the map with calls in flight to one at a time"),
    "prediction/median_error": Metric("share", "of the trials that the prediction chose"),
}


def trial_metrics(measured: Measurement) -> dict[str, float]:
    """A measurement under these names; what was not measured is left out."""
    values = {
        "throughput/examples_per_s": measured.examples_per_s,
        "throughput/ci_low": measured.ci.low,
        "throughput/ci_high": measured.ci.high,
        "throughput/steps_per_s": measured.steps_per_s,
        "input/wait_fraction": measured.wait_fraction,
        "step/p50_ms": measured.step_p50_ms,
        "step/p95_ms": measured.step_p95_ms,
        "cpu/seconds_per_1k_examples": measured.cpu_seconds_per_1k_examples,
        "cpu/utilisation": measured.cpu_utilisation,
        "first_batch_s": measured.first_batch_s,
        "memory/host_peak_mib": measured.host_peak_mib,
        "memory/device_peak_mib": measured.device_peak_mib,
        "memory/buffer_mib": measured.buffer_mib,
        "host/speed_index": measured.host_speed_index,
        "generator/restarts": float(measured.generator_restarts),
        "generator/skipped_elements": float(measured.skipped_elements),
        "measurement/startup_s": measured.startup_s,
        "measurement/measured_s": measured.measured_s,
        "measurement/windows": float(len(measured.windows)),
        "measurement/settled": float(measured.settled),
        "train/loss": measured.loss,
    }
    if measured.gpu is not None:
        values["accelerator/nvml_utilisation"] = measured.gpu.utilisation
        values["accelerator/sm_clock_mhz"] = measured.gpu.sm_clock_mhz
        values["memory/device_used_mib"] = measured.gpu.device_used_mib
    if measured.ceilings is not None:
        values["ceiling/producer_only"] = measured.ceilings.producer_only
    for node in measured.autotune:
        values[f"autotune/{node.node}/{node.parameter}"] = node.value
        values[f"autotune/{node.node}/buffered_mib"] = node.buffered_bytes / 2**20
    return {key: value for key, value in values.items() if value is not None}


def limit_metrics(terms: LimitTerms) -> dict[str, float]:
    """The limit's terms of one round; a generator that cannot be run alone is left out."""
    values = {
        "limit/step": terms.step_examples_per_s,
        "limit/step_cores": terms.step_cores,
        "limit/generator": terms.generator_examples_per_s,
        "limit/generator_cpu_us": 1e6 * terms.generator_cpu_s,
        "limit/map_cpu_us": 1e6 * terms.map_cpu_s,
        "limit/step_cpu_us": 1e6 * terms.step_cpu_s,
        "measurement/measured_s": terms.measured_s,
    }
    return {key: value for key, value in values.items() if value is not None}
