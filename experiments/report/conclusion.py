"""Concludes from a study's stored data: its result, and the record that a report needs."""

from __future__ import annotations

import optuna
from optuna.trial import TrialState

from prefetch_tuning.experiments.errors import StudyError
from prefetch_tuning.experiments.search.axes import offer
from prefetch_tuning.experiments.storage.attributes import StudyAttributes
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.results import Offered, StudyRecord, StudyResult
from prefetch_tuning.experiments.storage.studies import load_study
from prefetch_tuning.experiments.verdict.confirmation import conclude
from prefetch_tuning.experiments.verdict.measurements import is_baseline


def result_of(kept: StudyAttributes, measured_s: float, wall_s: float) -> StudyResult:
    """The result according to what is stored now.

    Args:
        kept: the attributes of a study that has begun; its search may not have.
        measured_s: seconds that this run spent on measuring.
        wall_s: seconds that this run took.
    """
    settings, info = kept.settings, kept.info
    pauses = kept.diagnosis.pauses if kept.diagnosis else None
    confirmation = conclude(
        kept.candidates,
        kept.rounds,
        cores=kept.cores,
        tolerance=settings.tolerance,
        memory_limit_mib=settings.memory_limit_mib,
        limits=kept.limits,
        splittable=bool({"generator_workers", "workers"} & set(info.axes)),
        flowing_share=pauses.flowing_share if pauses else 1.0,
        other_cores=kept.diagnosis.costs.other_cores if kept.diagnosis else 0,
        other_data=kept.other_data,
        goal=settings.goal,
        step_rate=kept.confirmed_step_rate,
    )
    recommended = confirmation.recommended
    chosen = confirmation.find(recommended.candidate) if recommended else None
    data = kept.data
    return StudyResult(
        pipeline=info.name,
        objective=settings.objective or "throughput",
        target=settings.goal.target,
        device=info.device,
        study=settings.name,
        mlflow_run_id=kept.run_id or "",
        trials=kept.counts,
        baselines={c.candidate: c for c in confirmation.candidates if is_baseline(c.candidate)},
        best=kept.best,
        diagnosis=kept.diagnosis,
        limit=confirmation.limit,
        fraction=chosen.fraction if chosen else None,
        utilisation=chosen.utilisation if chosen else None,
        confirmation=confirmation.candidates,
        speedup=confirmation.speedup,
        over_written=confirmation.over_written,
        gain=confirmation.gain,
        baseline_failures=confirmation.baseline_failures,
        data_checked=data.checked if data else None,
        data_batches=len(data.each_batch) if data else 0,
        data_stages=data.stages if data else None,
        data_uncompared=data.uncompared if data else [],
        other_data=[*kept.other_data, *_excluded_before(kept)],
        recommended=recommended,
        measured_s=measured_s,
        wall_s=wall_s,
    )


def _excluded_before(kept: StudyAttributes) -> list[str]:
    """The configurations that were excluded before others were nominated."""
    now = kept.candidates.values()
    return [str(config) for config in kept.excluded_with_best if config not in now]


def study_record(study: optuna.Study, result: StudyResult) -> StudyRecord:
    """Everything that a report needs, including the importance of the axes."""
    kept = StudyAttributes(study)
    offered = kept.offered or _offered_now(kept)
    return StudyRecord(
        result=result,
        info=kept.info,
        host=kept.host,
        versions=kept.versions,
        server_mib=kept.server_mib,
        seed=kept.settings.seed,
        trials=kept.rows,
        importance=_importance(study),
        searched=offered.searched,
        left_out=offered.left_out,
    )


def _offered_now(kept: StudyAttributes) -> Offered:
    """The axes for a study that has not stored them, or whose search has not begun."""
    found = offer(kept.info, kept.settings, kept.diagnosis, kept.cores)
    return Offered(searched=found.space.described, left_out=found.left_out)


def _importance(study: optuna.Study) -> dict[str, float]:
    # With a single trial Optuna warns and calls all axes equally important.
    if len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) < 2:
        return {}
    try:
        return dict(optuna.importance.get_param_importances(study))
    except (RuntimeError, ValueError):  # too few trials completed to tell
        return {}


def kept_record(study: str, store: Store) -> StudyRecord:
    """Everything that is stored about a study.

    Raises:
        StudyError: there is no such study, or another program created it.
    """
    found = load_study(study, store)
    kept = StudyAttributes(found)
    if not kept.is_ours:
        raise StudyError(f"study {study!r} was not created by prefetch-tune, so there is no report")
    return study_record(found, result_of(kept, *kept.spent))
