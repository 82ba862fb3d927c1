"""What is logged as metrics, under the names that README lists: of a trial, and of a study."""

from __future__ import annotations

from prefetch_tuning.experiments.search.diagnosis import stages
from prefetch_tuning.experiments.search.prediction import median_error
from prefetch_tuning.experiments.storage.results import StudyRecord, StudyResult
from prefetch_tuning.objectives.measurement import LimitTerms, Measurement
from prefetch_tuning.objectives.stage_costs import StageCosts


def trial_metrics(measured: Measurement) -> dict[str, float]:
    """A measurement under the names that README lists; what was not measured is left out."""
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


def result_metrics(record: StudyRecord) -> dict[str, float]:
    """What the parent run shows: of the recommended configuration, else of the search's best."""
    result = record.result
    metrics = {f"trials/{key}": float(n) for key, n in result.trials.model_dump().items()}
    metrics |= {"study/measured_s": result.measured_s, "study/wall_s": result.wall_s}
    chosen = result.recommended or result.best
    if chosen is not None:
        metrics["throughput/examples_per_s"] = chosen.examples_per_s
        metrics["throughput/ci_low"] = chosen.ci.low
        metrics["throughput/ci_high"] = chosen.ci.high
        metrics["memory/host_peak_mib"] = chosen.host_peak_mib
        if chosen.device_peak_mib is not None:
            metrics["memory/device_peak_mib"] = chosen.device_peak_mib
    if result.diagnosis is not None:
        metrics |= diagnosis_metrics(result.diagnosis.costs)
    metrics |= _of_the_limit(result) | _of_the_confirmation(result)
    error = median_error(
        (row.predicted_examples_per_s, row.measured.examples_per_s)
        for row in record.trials
        if row.warm_start and row.measured and row.predicted_examples_per_s
    )
    if error is not None:
        metrics["prediction/median_error"] = error
    return metrics


def _of_the_limit(result: StudyResult) -> dict[str, float]:
    metrics: dict[str, float] = {}
    if result.limit is not None:
        metrics["limit/examples_per_s"] = result.limit.examples_per_s
        terms = result.limit.terms.model_dump(exclude_none=True)
        metrics |= {f"limit/{name}": value for name, value in terms.items()}
    if result.fraction is not None:
        metrics["limit/fraction"] = result.fraction.share
        metrics["limit/fraction_ci_low"] = result.fraction.ci.low
        metrics["limit/fraction_ci_high"] = result.fraction.ci.high
    return metrics


def _of_the_confirmation(result: StudyResult) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for candidate in result.confirmation:
        name = f"confirmation/{candidate.candidate}"
        metrics[f"{name}/examples_per_s"] = candidate.examples_per_s
        metrics[f"{name}/ci_low"] = candidate.ci.low
        metrics[f"{name}/ci_high"] = candidate.ci.high
        metrics[f"{name}/rounds"] = float(candidate.rounds)
        if candidate.cv is not None:
            metrics[f"{name}/cv"] = candidate.cv
        if candidate.fraction is not None:
            metrics[f"{name}/limit_fraction"] = candidate.fraction.share
    ratios = {"speedup": result.speedup}
    if result.gain is not None:
        ratios |= {"gain/structure": result.gain.structure, "gain/settings": result.gain.settings}
    for name, ratio in ratios.items():
        if ratio is not None:
            metrics[f"{name}/ratio"] = ratio.ratio
            metrics[f"{name}/ci_low"] = ratio.ci.low
            metrics[f"{name}/ci_high"] = ratio.ci.high
    return metrics


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


def diagnosis_metrics(costs: StageCosts) -> dict[str, float]:
    """The stages' costs as metrics, in microseconds per example and milliseconds per step."""
    metrics = {"diagnosis/map_speedup": costs.map_speedup} if costs.map else {}
    for name, cost in stages(costs).items():
        metrics[f"diagnosis/{name}/wall_us"] = 1e6 * cost.wall_s
        metrics[f"diagnosis/{name}/cpu_us"] = 1e6 * cost.cpu_s
    for size, seconds in costs.step_s.items():
        metrics[f"diagnosis/step_ms/batch_{size}"] = 1e3 * seconds
    return metrics
