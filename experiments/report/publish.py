"""Writes a study's findings to its parent run in MLflow: metrics, tags and the report."""

from __future__ import annotations

import optuna

from prefetch_tuning.experiments.report.conclusion import result_of, study_record
from prefetch_tuning.experiments.report.document import Report
from prefetch_tuning.experiments.report.metrics import result_metrics
from prefetch_tuning.experiments.storage.attributes import StudyAttributes
from prefetch_tuning.experiments.storage.results import StudyRecord, StudyResult, Summary
from prefetch_tuning.experiments.storage.runs.tracking import Tracker
from prefetch_tuning.experiments.storage.schema import Tag

# MLflow allows 8,000 characters per tag.
NOTE_CHARACTERS = 7_900


def concluded(study: optuna.Study, spent: tuple[float, float]) -> StudyRecord:
    """What the study found, by the stored data.

    Args:
        study: a study that has begun.
        spent: seconds of measuring, and seconds of wall time, of this run.
    """
    kept = StudyAttributes(study)
    kept.spent = spent
    result = result_of(kept, *spent)
    kept.summary = Summary.of(result)
    return study_record(study, result)


def publish(
    record: StudyRecord, study: optuna.Study, run_id: str, tracker: Tracker, *, interrupted: bool
) -> StudyRecord:
    """Logs the findings to the study's parent run and ends that run.

    Args:
        record: the findings.
        study: the study.
        run_id: run id of its parent run.
        tracker: the MLflow server that has it.
        interrupted: Ctrl-C or an error ended the study early.

    Returns:
        The record, with another parent run if MLflow could not change this one.
    """
    kept, result = StudyAttributes(study), record.result
    config = result.recommended.config if result.recommended is not None else None
    tags = {Tag.STATE: "interrupted" if interrupted else "complete"}
    report = Report(record)
    tags[Tag.NOTE] = report.note()[:NOTE_CHARACTERS]
    kept.run_id = tracker.finish_study(
        run_id,
        interrupted=interrupted,
        params={
            "pipeline": record.info.target,
            "device": kept.settings.device,
            "seed": record.seed,
            "space": "; ".join(record.searched),
            "objective": result.objective,
            **({"target": result.target} if result.target is not None else {}),
            **(config.to_params() if config is not None else {}),
        },
        metrics=result_metrics(record),
        tags=tags | result_tags(result),
        texts=report.files(),
    )
    if kept.run_id == result.mlflow_run_id:
        return record
    moved = result.model_copy(update={"mlflow_run_id": kept.run_id})
    return record.model_copy(update={"result": moved})


def result_tags(result: StudyResult) -> dict[str, str]:
    """Tags for filtering studies."""
    tags: dict[str, str] = {}
    if result.best is not None:
        tags[Tag.BEST_CONFIG] = str(result.best.config)
        tags[Tag.BEST_RUN] = result.best.mlflow_run_id
    if result.diagnosis is not None:
        tags[Tag.DIAGNOSIS_CLASS] = result.diagnosis.bottleneck
        tags[Tag.DIAGNOSIS_STAGE] = result.diagnosis.stage
    if result.speedup is not None:
        tags[Tag.VERDICT] = result.speedup.verdict
    if result.recommended is not None:
        tags[Tag.RECOMMENDED] = result.recommended.candidate
        tags[Tag.RECOMMENDED_CONFIG] = str(result.recommended.config)
    if result.limit is not None:
        tags[Tag.BINDING] = result.limit.binding
    return tags
