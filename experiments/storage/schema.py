"""Names everything that is stored: MLflow's runs, tags and metrics, and Optuna's attributes.

Parameters of runs are the fields of `TrialSpec` and `PipelineConfig`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from prefetch_tuning.objectives.measurement import LimitTerms, Measurement


class Kind(StrEnum):
    """The kinds of runs: the values of the tag `kind`."""

    STUDY = "study"
    TRIAL = "trial"
    CONFIRMATION = "confirmation"
    LIMIT = "limit"
    RERUN = "rerun"
    SELFTEST = "selftest"
    STEP_TIME = "step_time"
    REPLACED = "replaced"


KINDS = {
    Kind.STUDY: "the parent run of a study",
    Kind.TRIAL: "one trial of the search",
    Kind.CONFIRMATION: "one candidate in one round of the confirmation",
    Kind.LIMIT: "the limit's terms in one round of the confirmation",
    Kind.RERUN: "a logged run that was measured again",
    Kind.SELFTEST: "a configuration compared with itself",
    Kind.STEP_TIME: "a training step that was measured alone, so it can be emulated",
    Kind.REPLACED: "an earlier parent run of a study whose recommendation changed since",
}


# The parameter of a run that measured a step.
STEP_TIME = "step_time"


class Tag(StrEnum):
    """The tags of runs, except those of the environment, which `host/environment.py` names."""

    # MLflow's own tags.
    PARENT = "mlflow.parentRunId"
    NOTE = "mlflow.note.content"
    # Of every run of a study.
    KIND = "kind"
    STATE = "state"
    STUDY = "study"
    PIPELINE = "pipeline"
    SOURCE_DIGEST = "pipeline.source_digest"
    DEVICE = "device"
    SEED = "seed"
    VERSION = "version.prefetch-tuning"
    # Of child runs.
    TRIAL_NUMBER = "trial_number"
    WARM_START = "warm_start"
    CANDIDATE = "candidate"
    ROUND = "round"
    BASELINE = "baseline"
    RERUN_OF = "rerun_of"
    FAILURE_KIND = "failure.kind"
    FAILURE_DETAIL = "failure.detail"
    ELEMENTS_DIGEST = "digest.elements"
    BATCHES_DIGEST = "digest.batches"
    GPU_THROTTLED = "gpu_throttled"
    OWN_ID = "own_id"
    THROTTLED = "throttled"
    NODE = "node"
    GENERATOR_CLUSTER = "generator_cluster"
    # Of a study's parent run.
    VERDICT = "verdict"
    BEST_CONFIG = "best.config"
    BEST_RUN = "best.run_id"
    RECOMMENDED = "recommended.candidate"
    RECOMMENDED_CONFIG = "recommended.config"
    DIAGNOSIS_CLASS = "diagnosis.class"
    DIAGNOSIS_STAGE = "diagnosis.stage"
    BINDING = "limit.binding"
    REPLACED_BY = "replaced_by"


# Tags of every run of a study. A self-test has only KIND and VERSION of these.
RUN_TAGS = {
    Tag.KIND: "what the run is: one of the kinds of runs",
    Tag.STATE: "how the run ended: complete, pruned, infeasible, failed or interrupted",
    Tag.STUDY: "name of the study",
    Tag.PIPELINE: "name of the pipeline",
    Tag.SOURCE_DIGEST: "SHA-256 of the source of the pipeline's module",
    Tag.DEVICE: "description of the device that runs the training steps",
    Tag.SEED: "seed of the generator, the model and the sampler",
    Tag.VERSION: "version of this package",
    Tag.NOTE: "Markdown that the MLflow UI shows with the run",
    Tag.OWN_ID: "an id that the run had before MLflow gave it one; a study's parent run has none",
}
# Tags of trials, rounds and reruns.
CHILD_TAGS = {
    Tag.PARENT: "run id of the parent run; MLflow groups child runs under it",
    Tag.TRIAL_NUMBER: "number of the trial in its study, from 0",
    Tag.WARM_START: "`true` if the prediction chose the trial, not the sampler",
    Tag.CANDIDATE: "name of the candidate in the confirmation",
    Tag.ROUND: "number of the round, or of the repeat of a rerun, from 0",
    Tag.BASELINE: "name of the candidate if it is a baseline: autotune or no_prefetch",
    Tag.RERUN_OF: "run id of the run that was measured again",
    Tag.FAILURE_KIND: "such as generator, timeout, out_of_memory or device_oom",
    Tag.FAILURE_DETAIL: "the exception or the signal",
    Tag.ELEMENTS_DIGEST: "SHA-256 of the generator's first elements",
    Tag.BATCHES_DIGEST: "SHA-256 of the first two batches",
    Tag.GPU_THROTTLED: "NVML's reasons why the GPU was held back during the run",
    Tag.THROTTLED: "the same reasons for a whole round, which was then measured again",
    Tag.NODE: "name of the cluster's node that measured",
    Tag.GENERATOR_CLUSTER: "`true` if nodes of a cluster could run the generator's processes",
}
# Tags of a study's parent run.
STUDY_TAGS = {
    Tag.VERDICT: (
        "the recommended configuration against AUTOTUNE: faster, slower, no significant "
        "difference, or too few rounds (AUTOTUNE failed in some); if AUTOTUNE is recommended, the "
        "best other candidate takes its place"
    ),
    Tag.BEST_CONFIG: "the configuration of the search's best trial",
    Tag.BEST_RUN: "run id of that trial",
    Tag.RECOMMENDED: "name of the recommended candidate",
    Tag.RECOMMENDED_CONFIG: "the configuration of the recommended candidate",
    Tag.DIAGNOSIS_CLASS: "the kind of bottleneck, such as map-cpu or step-bound",
    Tag.DIAGNOSIS_STAGE: "the stage that contains the bottleneck",
    Tag.BINDING: "the term that sets the limit: step, generator or cpu",
    Tag.REPLACED_BY: "run id of the study's new parent run, if MLflow could not change a parameter",
}
# Those that a study may lose again, for example if more trials make new rounds necessary.
RESULT_TAGS = {Tag.VERDICT, Tag.RECOMMENDED, Tag.RECOMMENDED_CONFIG, Tag.BINDING}


class StudyAttr(StrEnum):
    """The attributes of a study in Optuna's storage.

    Those with a "/" are followed by the number of a confirmation, and `ROUND` also by a round's.
    """

    RUN_ID = "mlflow_run_id"
    INFO = "info"
    SETTINGS = "settings"
    HOST = "host"
    CORES = "cores"
    VERSIONS = "versions"
    SPENT = "spent"
    SUMMARY = "summary"
    SERVER_MIB = "server_mib"
    DIAGNOSIS = "diagnosis"
    OFFERED = "offered"
    REFERENCE_RATE = "reference_examples_per_s"
    CONFIRMATION = "confirmation/"
    ROUND = "round/"
    DATA = "data/"
    OTHER_DATA = "other_data/"


class TrialAttr(StrEnum):
    """The attributes of a trial in Optuna's storage."""

    RUN_ID = "mlflow_run_id"
    CONFIG = "config"
    STATE = "state"
    MEASURED = "measured"
    FAILURE = "failure"
    PREDICTED = "predicted"
    WARM_START = "warm_start"


class Metric(NamedTuple):
    """The unit and the meaning of a metric."""

    unit: str
    meaning: str


# Metrics of one trial or round. A name in capitals stands for several names.
TRIAL_METRICS = {
    "throughput/examples_per_s": Metric(
        "examples/s", "mean rate of the training loop over the counted windows, without start-up"
    ),
    "throughput/ci_low": Metric(
        "examples/s", "lower end of the rate's 95% confidence interval within the trial"
    ),
    "throughput/ci_high": Metric("examples/s", "upper end of this interval"),
    "throughput/window_examples_per_s": Metric("examples/s", "rate of each window, as a series"),
    "throughput/steps_per_s": Metric(
        "steps/s", "training steps per second over the counted windows, without start-up"
    ),
    "accelerator/cores": Metric(
        "cores", "cores that the configuration would keep busy if the training step never waited"
    ),
    "accelerator/utilisation": Metric(
        "share",
        "rate as a share of the step's rate on ready batches, which the diagnosis measured; the "
        "accelerator waits for data in the rest of the time",
    ),
    "host/wait_fraction": Metric(
        "0 to 1",
        "share of the time that the host waited for the next batch; a GPU may still have had steps "
        "to run meanwhile",
    ),
    "step/p50_ms": Metric(
        "ms",
        "median time of a training step, including its wait for data; on a GPU, one step in "
        "fifty is timed, and the host waits for the device before and after it",
    ),
    "step/p95_ms": Metric("ms", "95th percentile of the same time"),
    "cpu/seconds_per_1k_examples": Metric(
        "CPU s", "CPU seconds per 1,000 examples, of the trial's process and its children"
    ),
    "cpu/utilisation": Metric("0 to 1", "share of the usable cores that the trial kept busy"),
    "first_batch_s": Metric("s", "time from the start of the measured iterator to its first batch"),
    "first_pass_s": Metric("s", "time of the pass that filled a cache; absent without one"),
    "memory/host_peak_mib": Metric(
        "MiB",
        "peak resident memory that the input pipeline added after tracing, including child "
        "processes, with its buffers full",
    ),
    "memory/device_peak_mib": Metric("MiB", "on a GPU: peak memory of TensorFlow's allocator"),
    "memory/device_used_mib": Metric(
        "MiB", "on a GPU: peak memory of the whole device beyond its use before the trial, by NVML"
    ),
    "memory/buffer_mib": Metric("MiB", "size of the chain's buffers when they are full"),
    "accelerator/nvml_utilisation": Metric(
        "0 to 1", "on a GPU: mean share of the trial's time in which a kernel ran, by NVML"
    ),
    "accelerator/sm_clock_mhz": Metric(
        "MHz", "on a GPU: median clock of the multiprocessors during the trial, by NVML"
    ),
    "host/speed_index": Metric(
        "ratio", "the host's own speed around the trial, which drifts; 1 is the reference machine"
    ),
    "host/node_speed": Metric(
        "ratio",
        "on a cluster: the node's rate of the reference configuration over that of the study's "
        "first node; rates and times are those that the first node would have had",
    ),
    "generator/restarts": Metric("count", "restarts of a finite generator"),
    "generator/skipped_elements": Metric("count", "faulty elements that were skipped"),
    "measurement/startup_s": Metric(
        "s", "time from the start of the iterator to the first counted window"
    ),
    "measurement/measured_s": Metric("s", "time spent on measuring, including the start-up"),
    "measurement/windows": Metric("count", "counted windows"),
    "measurement/settled": Metric(
        "0 or 1", "0 if the rate was still drifting when the trial's time ran out"
    ),
    "train/loss": Metric("loss", "loss of the last training step"),
    "ceiling/producer_only": Metric("examples/s", "rate of the chain without the training step"),
    "prediction/examples_per_s": Metric(
        "examples/s", "rate that the costs in the diagnosis predict for the configuration"
    ),
    "prediction/error": Metric(
        "share", "predicted over measured rate, minus 1; above 0 the prediction was too high"
    ),
    "autotune/NODE/PARAMETER": Metric(
        "", "value that AUTOTUNE chose; `buffered_mib` is the memory that the node held, in MiB"
    ),
}
# Metrics of the limit's terms in one round.
LIMIT_METRICS = {
    "limit/step": Metric("examples/s", "rate of the training step alone on ready batches"),
    "limit/step_cores": Metric("cores", "cores that the training step alone keeps busy"),
    "limit/generator": Metric("examples/s", "rate of the bare generator in one process"),
    "limit/generator_cpu_us": Metric("µs", "least CPU time per example in the generator"),
    "limit/handed_cpu_us": Metric(
        "µs", "least CPU time per example of handing it to tf.data and batching it"
    ),
    "limit/map_cpu_us": Metric("µs", "least CPU time per example in the map"),
    "limit/step_cpu_us": Metric("µs", "least CPU time per example in the training step"),
    "measurement/measured_s": Metric("s", "time spent on measuring the terms"),
}
# Metrics of a study's parent run.
STUDY_METRICS = {
    "throughput/examples_per_s": Metric(
        "examples/s", "rate of the recommended configuration, otherwise of the search's best trial"
    ),
    "throughput/ci_low": Metric("examples/s", "lower end of this rate's 95% confidence interval"),
    "throughput/ci_high": Metric("examples/s", "upper end of this interval"),
    "memory/host_peak_mib": Metric("MiB", "peak host memory of that configuration"),
    "memory/device_peak_mib": Metric("MiB", "on a GPU: peak device memory of that configuration"),
    "trials/STATE": Metric("count", "trials that ended in this state"),
    "study/measured_s": Metric(
        "s", "time in which the latest run ran what it measures, from the start of each iterator"
    ),
    "study/wall_s": Metric("s", "wall time of the latest run"),
    "limit/examples_per_s": Metric(
        "examples/s", "the pipeline's limit at the confirmed batch size: the least of its terms"
    ),
    "limit/TERM": Metric(
        "examples/s",
        "rate that the term `step`, `generator` or `cpu` allows; the rounds' median, for `cpu` "
        "their upper quartile",
    ),
    "limit/fraction": Metric(
        "0 to 1", "share of the limit that the recommended configuration reached"
    ),
    "limit/fraction_ci_low": Metric("0 to 1", "lower end of this share's 95% confidence interval"),
    "limit/fraction_ci_high": Metric("0 to 1", "upper end of this interval"),
    "accelerator/utilisation": Metric(
        "share",
        "rate of the recommended configuration as a share of the step's rate on ready batches; the "
        "accelerator waits for data in the rest of the time",
    ),
    "accelerator/cores": Metric(
        "cores",
        "cores that the recommended configuration would keep busy if the step never waited",
    ),
    "accelerator/utilisation_ci_low": Metric(
        "share", "lower end of this share's 95% confidence interval"
    ),
    "accelerator/utilisation_ci_high": Metric("share", "upper end of this interval"),
    "speedup/ratio": Metric(
        "ratio",
        "recommended configuration over AUTOTUNE at the same batch size, by median rates; if "
        "AUTOTUNE itself is recommended, the best other candidate over AUTOTUNE",
    ),
    "speedup/ci_low": Metric("ratio", "lower end of this ratio's 95% confidence interval"),
    "speedup/ci_high": Metric("ratio", "upper end of this interval"),
    "gain/PART/ratio": Metric(
        "ratio",
        "`structure`: AUTOTUNE on the structure that was found, over AUTOTUNE on the plain chain; "
        "`settings`: the best fixed settings over AUTOTUNE, both on that structure",
    ),
    "gain/PART/ci_low": Metric("ratio", "lower end of this ratio's 95% confidence interval"),
    "gain/PART/ci_high": Metric("ratio", "upper end of this interval"),
    "confirmation/CANDIDATE/examples_per_s": Metric(
        "examples/s", "median of the candidate's rates over its rounds"
    ),
    "confirmation/CANDIDATE/ci_low": Metric(
        "examples/s", "lower end of this median's 95% confidence interval"
    ),
    "confirmation/CANDIDATE/ci_high": Metric("examples/s", "upper end of this interval"),
    "confirmation/CANDIDATE/rounds": Metric("count", "rounds that measured the candidate"),
    "confirmation/CANDIDATE/cv": Metric(
        "share", "coefficient of variation: standard deviation of its rates over their mean"
    ),
    "confirmation/CANDIDATE/limit_fraction": Metric(
        "0 to 1", "share of the limit that the candidate reached"
    ),
    "confirmation/CANDIDATE/utilisation": Metric(
        "share", "the candidate's rate as a share of the step's rate on ready batches"
    ),
    "confirmation/CANDIDATE/cores": Metric(
        "cores", "cores that the candidate would keep busy if the step never waited"
    ),
    "diagnosis/STAGE/wall_us": Metric("µs", "wall time per example in the stage alone"),
    "diagnosis/STAGE/cpu_us": Metric("µs", "CPU time per example in the stage alone"),
    "diagnosis/step_ms/BATCH": Metric("ms", "time of a training step at this batch size"),
    "diagnosis/pause_s": Metric("s", "how long the generator pauses, if it does"),
    "diagnosis/pause_apart_s": Metric(
        "s", "from the beginning of one of its pauses to that of the next"
    ),
    "diagnosis/map_speedup": Metric(
        "ratio", "rate of the map with several calls in flight over its rate with one"
    ),
    "prediction/median_error": Metric(
        "share", "median size of the prediction's error over the trials that it chose"
    ),
}
# Metrics of a measured step.
STEP_TIME_METRICS = {
    "step_ms/BATCH": Metric("ms", "time of a training step on ready batches of this size"),
}
# Metrics that `InputMonitor` adds to the run of a training, which isn't a run of this project.
MONITOR_METRICS = {
    "input/wait_fraction": Metric(
        "0 to 1", "share of the time that the training waited for data; on a GPU, of timed steps"
    ),
    "throughput/examples_per_s": Metric("examples/s", "rate of the training"),
}
# Metrics of a self-test.
SELFTEST_METRICS = {
    "selftest/false_share": Metric(
        "0 to 1", "share of the comparisons that were judged faster or slower"
    ),
    "selftest/cv": Metric(
        "share", "coefficient of variation of all runs: standard deviation over mean"
    ),
    "selftest/round_cv": Metric(
        "share", "median of the same within a round, the noise between consecutive runs"
    ),
    "selftest/half_width": Metric(
        "share",
        "median half width of the ratios' 95% confidence intervals; smaller differences cannot be "
        "told apart on this host",
    ),
    "selftest/ratio": Metric(
        "ratio", "ratio of the configuration to itself in each comparison, as a series"
    ),
}


def trial_metrics(measured: Measurement) -> dict[str, float]:
    """A measurement's metrics under these names, without those that were not measured."""
    values = {
        "throughput/examples_per_s": measured.examples_per_s,
        "throughput/ci_low": measured.ci.low,
        "throughput/ci_high": measured.ci.high,
        "throughput/steps_per_s": measured.steps_per_s,
        "host/wait_fraction": measured.host_wait_fraction,
        "step/p50_ms": measured.step_p50_ms,
        "step/p95_ms": measured.step_p95_ms,
        "cpu/seconds_per_1k_examples": measured.cpu_seconds_per_1k_examples,
        "cpu/utilisation": measured.cpu_utilisation,
        "first_batch_s": measured.first_batch_s,
        "first_pass_s": measured.first_pass_s,
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
    if measured.node is not None:
        values["host/node_speed"] = measured.node_speed
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
    """The limit's terms of one round; without the generator if it cannot be run alone."""
    values = {
        "limit/step": terms.step_examples_per_s,
        "limit/step_cores": terms.step_cores,
        "limit/generator": terms.generator_examples_per_s,
        "limit/generator_cpu_us": 1e6 * terms.generator_cpu_s,
        "limit/handed_cpu_us": 1e6 * terms.handed_cpu_s,
        "limit/map_cpu_us": 1e6 * terms.map_cpu_s,
        "limit/step_cpu_us": 1e6 * terms.step_cpu_s,
        "measurement/measured_s": terms.measured_s,
    }
    return {key: value for key, value in values.items() if value is not None}
