"""Measures and logs the parts of a confirmation's rounds: a candidate, or the limit."""

from __future__ import annotations

import time

from prefetch_tuning.experiments.host.interrupts import uninterrupted
from prefetch_tuning.experiments.storage.schema import Kind, Tag
from prefetch_tuning.experiments.study.pipeline_study import PipelineStudy
from prefetch_tuning.experiments.study.work import Call, Piece
from prefetch_tuning.experiments.verdict.measurements import (
    MeasuredLimit,
    MeasuredRound,
    RoundMeasurement,
    is_baseline,
)
from prefetch_tuning.objectives.measurement import LimitTerms, Measurement, TrialFailure
from prefetch_tuning.pipelines.chain.blocks import batches_to_check
from prefetch_tuning.pipelines.config import PipelineConfig

# The rate without the step explains a result but decides nothing, so two rounds are enough.
CEILING_ROUNDS = 2


class RoundRuns:
    """Measures and logs the parts of a round. All state is in the study."""

    def __init__(self, study: PipelineStudy) -> None:
        self._study = study

    def run_candidate(
        self, name: str, config: PipelineConfig, number: int
    ) -> Piece[RoundMeasurement | TrialFailure]:
        """Measures a candidate in round `number` of the confirmation and logs it as a run.

        Raises:
            NodeLostError: the node that was measuring is gone.
        """
        ceilings = number < CEILING_ROUNDS
        check = {"ceilings": ceilings, "digest_batches": batches_to_check(config)}
        spec = self._study.spec(config).model_copy(update=check)
        began = time.time()
        result: Measurement | TrialFailure = yield Call.measure(spec)
        failed = isinstance(result, TrialFailure)
        tags = {
            **self._study.tags,
            Tag.KIND: Kind.CONFIRMATION,
            Tag.CANDIDATE: name,
            Tag.ROUND: str(number),
        }
        if is_baseline(name):
            tags[Tag.BASELINE] = name
        title = f"round {number:02d} {name}: {config}"
        with uninterrupted():
            run_id = self._study.tracker.log_trial(
                self._study.run_id,
                title,
                spec,
                result,
                "failed" if failed else "complete",
                tags,
                began,
                self._study.utilisation(config, result),
            )
        if isinstance(result, TrialFailure):
            return result
        self._study.measured_s += result.measured_s
        return RoundMeasurement.of(result, run_id)

    def run_limit(self, batch_size: int, number: int) -> Piece[MeasuredLimit | TrialFailure]:
        """Measures the terms of the limit in round `number` and logs them as a run.

        Raises:
            NodeLostError: the node that was measuring is gone.
        """
        began, info, settings = time.time(), self._study.info, self._study.settings
        given = (info.target, batch_size, settings.seed, settings.device)
        axes = {"vectorized": "vectorized_map" in info.axes, "cached": "cache" in info.axes}
        result: LimitTerms | TrialFailure = yield Call("measure_limit", given, axes)
        if isinstance(result, TrialFailure):
            return result
        self._study.measured_s += result.measured_s
        if not info.device.startswith("gpu"):
            # Device "auto" can mean the CPU, beside a GPU that NVML sees and TensorFlow cannot use.
            result = result.model_copy(update={"gpu": None})
        tags = {**self._study.tags, Tag.KIND: Kind.LIMIT, Tag.ROUND: str(number)}
        title = f"round {number:02d} limit: batch {batch_size}"
        with uninterrupted():
            run_id = self._study.tracker.log_limit(
                self._study.run_id, title, batch_size, result, tags, began
            )
        return MeasuredLimit(terms=result, mlflow_run_id=run_id)

    def mark_lost(self, kept: MeasuredRound) -> None:
        """Marks the MLflow runs of a round that ended halfway, because its node was lost."""
        for run_id in kept.run_ids:
            self._study.tracker.mark_uncounted(run_id)

    def mark_throttled(self, kept: MeasuredRound) -> None:
        """Marks a round's MLflow runs as throttled, so that no result is computed from them."""
        for run_id in kept.run_ids:
            self._study.tracker.mark_uncounted(run_id, kept.throttled)
