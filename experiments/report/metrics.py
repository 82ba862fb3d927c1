"""Turns a study's findings into metrics of its parent run."""

from __future__ import annotations

from prefetch_tuning.experiments.report.target_words import cores_to_feed
from prefetch_tuning.experiments.search.diagnosis import stages
from prefetch_tuning.experiments.search.prediction import median_error
from prefetch_tuning.experiments.storage.results import StudyRecord, StudyResult
from prefetch_tuning.objectives.stage_costs import StageCosts


def result_metrics(record: StudyRecord) -> dict[str, float]:
    """The parent run's metrics, of the recommended configuration or else of the best trial."""
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
        pauses = result.diagnosis.pauses
        if pauses is not None:
            metrics["diagnosis/pause_s"] = pauses.mean_s
            metrics["diagnosis/pause_apart_s"] = pauses.apart_s
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
    shares = {"limit/fraction": result.fraction, "accelerator/utilisation": result.utilisation}
    for name, found in shares.items():
        if found is not None:
            metrics[name] = found.share
            metrics[f"{name}_ci_low"] = found.ci.low
            metrics[f"{name}_ci_high"] = found.ci.high
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
        if candidate.utilisation is not None:
            metrics[f"{name}/utilisation"] = candidate.utilisation.share
            metrics[f"{name}/cores"] = cores_to_feed(candidate, result)
            if result.recommended and result.recommended.candidate == candidate.candidate:
                metrics["accelerator/cores"] = metrics[f"{name}/cores"]
    ratios = {"speedup": result.speedup}
    if result.gain is not None:
        ratios |= {"gain/structure": result.gain.structure, "gain/settings": result.gain.settings}
    for name, ratio in ratios.items():
        if ratio is not None:
            metrics[f"{name}/ratio"] = ratio.ratio
            metrics[f"{name}/ci_low"] = ratio.ci.low
            metrics[f"{name}/ci_high"] = ratio.ci.high
    return metrics


def diagnosis_metrics(costs: StageCosts) -> dict[str, float]:
    """The stages' costs, in microseconds per example and milliseconds per step."""
    metrics = {"diagnosis/map_speedup": costs.map_speedup} if costs.map else {}
    for name, cost in stages(costs).items():
        metrics[f"diagnosis/{name}/wall_us"] = 1e6 * cost.wall_s
        metrics[f"diagnosis/{name}/cpu_us"] = 1e6 * cost.cpu_s
    for size, seconds in costs.step_s.items():
        metrics[f"diagnosis/step_ms/batch_{size}"] = 1e3 * seconds
    return metrics
