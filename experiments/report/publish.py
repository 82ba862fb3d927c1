"""Writes what a study found to its parent run: numbers, words and the report."""

from __future__ import annotations

from prefetch_tuning.experiments.report.conclusion import result_of, study_record
from prefetch_tuning.experiments.report.document import html, markdown, note
from prefetch_tuning.experiments.report.snippet import snippet
from prefetch_tuning.experiments.storage.load_config import CONFIG_FILE
from prefetch_tuning.experiments.storage.metrics import result_metrics
from prefetch_tuning.experiments.storage.results import StudyRecord, StudyResult
from prefetch_tuning.experiments.storage.tracking import NOTE, Tracker
from prefetch_tuning.experiments.study.pipeline_study import PipelineStudy

# MLflow takes 8,000 characters a tag.
NOTE_CHARACTERS = 7_900


def close_study(
    study: PipelineStudy, tracker: Tracker, wall_s: float, *, interrupted: bool
) -> StudyRecord:
    """Concludes from what the study keeps, logs it to the parent run and ends that."""
    study.record.spent = (study.measured_s, wall_s)
    result = result_of(study.record, study.measured_s, wall_s)
    record = study_record(study.study, result)
    tags = {"state": "interrupted" if interrupted else "complete"}
    tags[NOTE] = note(record)[:NOTE_CHARACTERS]
    texts = {"report.html": html(record), "report.md": markdown(record)}
    code = snippet(record)
    if code:
        texts["snippet.py"] = code
    if result.recommended is not None:
        texts[CONFIG_FILE] = result.recommended.config.model_dump_json(indent=2)
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
    space = study.offer.space
    return {
        "pipeline": study.info.target,
        "device": study.settings.device,
        "seed": study.settings.seed,
        "space": "; ".join(space.described),
    }


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
