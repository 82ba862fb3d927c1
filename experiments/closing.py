"""Writes what a study found to its parent run: numbers, words and the report."""

from __future__ import annotations

from experiments.conclusion import result_of, study_record
from experiments.diagnosis import stages
from experiments.prediction import median_error
from experiments.report.document import html, markdown
from experiments.report.snippet import snippet
from experiments.results import StudyRecord, StudyResult
from experiments.study import PipelineStudy
from experiments.tracking import NOTE, Tracker
from objectives.measurement import StageCosts

# MLflow takes 8,000 characters a tag.
NOTE_CHARACTERS = 7_900


def close_study(
    study: PipelineStudy, tracker: Tracker, wall_s: float, *, interrupted: bool
) -> StudyRecord:
    """Concludes from what the study keeps, logs it to the parent run and ends that."""
    study.record.spent = (study.measured_s, wall_s)
    result = result_of(study.record, study.measured_s, wall_s)
    record = study_record(study.study, result)
    text = markdown(record)
    tags = {"state": "interrupted" if interrupted else "complete", NOTE: text[:NOTE_CHARACTERS]}
    texts = {"report.html": html(record), "report.md": text}
    code = snippet(record)
    if code:
        texts["snippet.py"] = code
    tracker.finish_study(
        study.run_id,
        interrupted=interrupted,
        params=_params(study),
        metrics=result_metrics(record),
        tags=tags | result_tags(result),
        texts=texts,
    )
    return record


def _params(study: PipelineStudy) -> dict[str, object]:
    space = study.space
    return {
        "pipeline": study.info.target,
        "device": study.settings.device,
        "seed": study.settings.seed,
        "space.batch_sizes": list(space.batch_sizes),
        "space.max_prefetch": space.max_prefetch,
        "space.max_map_parallelism": space.max_map_parallelism,
    }


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
    if result.limit is not None:
        metrics["limit/examples_per_s"] = result.limit.examples_per_s
        metrics["limit/fraction"] = result.limit.fraction
        metrics |= {f"limit/{k}": v for k, v in result.limit.terms.model_dump().items()}
    for candidate in result.confirmation:
        name = f"confirmation/{candidate.candidate}"
        metrics[f"{name}/examples_per_s"] = candidate.examples_per_s
        metrics[f"{name}/ci_low"] = candidate.ci.low
        metrics[f"{name}/ci_high"] = candidate.ci.high
        metrics[f"{name}/rounds"] = float(candidate.rounds)
        if candidate.cv is not None:
            metrics[f"{name}/cv"] = candidate.cv
        if candidate.limit is not None:
            metrics[f"{name}/limit_fraction"] = candidate.limit.fraction
    if result.speedup is not None:
        metrics["speedup/ratio"] = result.speedup.ratio
        metrics["speedup/ci_low"] = result.speedup.ci.low
        metrics["speedup/ci_high"] = result.speedup.ci.high
    error = median_error(
        (row.predicted_examples_per_s, row.measured.examples_per_s)
        for row in record.trials
        if row.warm_start and row.measured and row.predicted_examples_per_s
    )
    if error is not None:
        metrics["prediction/median_error"] = error
    return metrics


def diagnosis_metrics(costs: StageCosts) -> dict[str, float]:
    """The stages' costs as metrics, in microseconds per example and milliseconds per step."""
    metrics = {"diagnosis/map_speedup": costs.map_speedup} if costs.map else {}
    for name, cost in stages(costs).items():
        metrics[f"diagnosis/{name}/wall_us"] = 1e6 * cost.wall_s
        metrics[f"diagnosis/{name}/cpu_us"] = 1e6 * cost.cpu_s
    for size, seconds in costs.step_s.items():
        metrics[f"diagnosis/step_ms/batch_{size}"] = 1e3 * seconds
    return metrics


def result_tags(result: StudyResult) -> dict[str, str]:
    """What one filters studies by."""
    tags: dict[str, str] = {}
    if result.best is not None:
        tags["best.config"] = str(result.best.config)
        tags["best.run_id"] = result.best.mlflow_run_id
    if result.diagnosis is not None:
        tags["diagnosis.class"] = result.diagnosis.bottleneck
        tags["diagnosis.stage"] = result.diagnosis.stage
    if result.speedup is not None:
        tags["verdict"] = result.speedup.verdict
    if result.recommended is not None:
        tags["recommended.candidate"] = result.recommended.candidate
        tags["recommended.config"] = str(result.recommended.config)
    if result.limit is not None:
        tags["limit.binding"] = result.limit.binding
    return tags
