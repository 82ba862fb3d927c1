"""From what a study keeps to what it found: the result, and all that a report is made of."""

from __future__ import annotations

import optuna
from optuna.trial import TrialState

from prefetch_tuning.experiments.errors import StudyError
from prefetch_tuning.experiments.search.axes import offer
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.record import Offered, Record
from prefetch_tuning.experiments.storage.results import StudyRecord, StudyResult
from prefetch_tuning.experiments.storage.studies import load_study
from prefetch_tuning.experiments.verdict.confirmation import Confirmation, conclude
from prefetch_tuning.experiments.verdict.limit import Fraction
from prefetch_tuning.experiments.verdict.measurements import is_baseline


def result_of(record: Record, measured_s: float, wall_s: float) -> StudyResult:
    """The result as the record has it now.

    Args:
        record: of a study that was described, searched or not.
        measured_s: seconds of measuring in this run.
        wall_s: seconds of this run in all.
    """
    settings, info = record.settings, record.info
    confirmation = conclude(
        record.candidates,
        record.rounds,
        cores=record.cores,
        tolerance=settings.tolerance,
        memory_limit_mib=settings.memory_limit_mib,
        limits=record.limits,
        splittable=bool({"generator_workers", "workers"} & set(info.axes)),
        other_data=record.other_data,
    )
    data = record.data
    return StudyResult(
        pipeline=info.name,
        device=info.device,
        study=settings.name,
        mlflow_run_id=record.run_id or "",
        trials=record.counts,
        baselines={c.candidate: c for c in confirmation.candidates if is_baseline(c.candidate)},
        best=record.best,
        diagnosis=record.diagnosis,
        limit=confirmation.limit,
        fraction=_fraction(confirmation),
        confirmation=confirmation.candidates,
        speedup=confirmation.speedup,
        gain=confirmation.gain,
        baseline_failures=confirmation.baseline_failures,
        data_checked=data.checked if data else None,
        data_batches=len(data.each_batch) if data else 0,
        other_data=record.other_data,
        recommended=confirmation.recommended,
        measured_s=measured_s,
        wall_s=wall_s,
    )


def study_record(study: optuna.Study, result: StudyResult) -> StudyRecord:
    """All that a report needs, the importance of the axes included."""
    record = Record(study)
    offered = record.offered or _offered_now(record)
    return StudyRecord(
        result=result,
        info=record.info,
        host=record.host,
        versions=record.versions,
        seed=record.settings.seed,
        trials=record.rows,
        importance=_importance(study),
        searched=offered.searched,
        left_out=offered.left_out,
    )


def _offered_now(record: Record) -> Offered:
    """For a study that did not keep it, or has not begun to search."""
    found = offer(record.info, record.settings, record.diagnosis, record.cores)
    return Offered(searched=found.space.described, left_out=found.left_out)


def _fraction(confirmation: Confirmation) -> Fraction | None:
    recommended = confirmation.recommended
    found = recommended and confirmation.find(recommended.candidate)
    return found.fraction if found else None


def _importance(study: optuna.Study) -> dict[str, float]:
    # Of a single trial Optuna says, with a warning, that every axis mattered as much.
    if len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) < 2:
        return {}
    try:
        return dict(optuna.importance.get_param_importances(study))
    except (RuntimeError, ValueError):  # too few trials completed to tell
        return {}


def kept_record(study: str, store: Store) -> StudyRecord:
    """Everything that is kept of a study.

    Raises:
        StudyError: there is no such study, or something else made it.
    """
    found = load_study(study, store)
    record = Record(found)
    if not record.is_described:
        raise StudyError(f"study {study!r} was not made by prefetch-tune; there is no report")
    return study_record(found, result_of(record, *record.spent))
