"""The runs that a confirmation consists of: a candidate, the limit, and the plain chain's data."""

from __future__ import annotations

import time

from prefetch_tuning.experiments.host.interrupts import uninterrupted
from prefetch_tuning.experiments.storage.schema import Kind, Tag
from prefetch_tuning.experiments.study.pipeline_study import PipelineStudy
from prefetch_tuning.experiments.verdict.measurements import (
    MeasuredLimit,
    MeasuredRound,
    PlainData,
    RoundMeasurement,
    is_baseline,
)
from prefetch_tuning.experiments.verdict.same_data import reference
from prefetch_tuning.objectives.measurement import TrialFailure
from prefetch_tuning.pipelines.chain.blocks import batches_to_check
from prefetch_tuning.pipelines.config import PipelineConfig

# A slow plain chain is compared on the batches that it makes in this time.
READ_PLAIN_S = 6.0
# What a chain makes without the step explains a result and decides nothing: a few rounds will do.
CEILING_ROUNDS = 3


class RoundRuns:
    """Measures what a round needs, and logs it; all that it knows is the study's."""

    def __init__(self, study: PipelineStudy) -> None:
        self._study = study
        self._kept = study.kept

    def run_candidate(
        self, name: str, config: PipelineConfig, number: int
    ) -> RoundMeasurement | TrialFailure:
        """Measures a candidate of the confirmation in round `number` and logs it as a run."""
        ceilings = number < CEILING_ROUNDS
        check = {"ceilings": ceilings, "digest_batches": batches_to_check(config)}
        spec = self._study.spec(config).model_copy(update=check)
        began = time.time()
        result = self._study.runner.measure(spec)
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
            )
        if isinstance(result, TrialFailure):
            return result
        self._study.measured_s += result.measured_s
        return RoundMeasurement.of(result, run_id)

    def run_limit(self, batch_size: int, number: int) -> MeasuredLimit | TrialFailure:
        """Measures the terms of the limit in round `number` and logs them as a run."""
        began = time.time()
        result = self._study.runner.measure_limit(
            self._study.info.target,
            batch_size,
            self._study.settings.seed,
            self._study.settings.device,
            vectorized="vectorized_map" in self._study.info.axes,
        )
        if isinstance(result, TrialFailure):
            return result
        self._study.measured_s += result.measured_s
        if not self._study.info.device.startswith("gpu"):
            # Measured with "auto" on the CPU, beside a GPU that TensorFlow cannot use.
            result = result.model_copy(update={"gpu": None})
        tags = {**self._study.tags, Tag.KIND: Kind.LIMIT, Tag.ROUND: str(number)}
        title = f"round {number:02d} limit: batch {batch_size}"
        with uninterrupted():
            run_id = self._study.tracker.log_limit(
                self._study.run_id, title, batch_size, result, tags, began
            )
        return MeasuredLimit(terms=result, mlflow_run_id=run_id)

    def mark_throttled(self, kept: MeasuredRound) -> None:
        """Takes what a round measured out of everything that is made of its MLflow runs."""
        for run_id in kept.run_ids:
            self._study.tracker.mark_throttled(run_id, kept.throttled)

    def read_plain_data(self) -> PlainData:
        """The plain chain's first batches, for as many as any candidate is checked on.

        They are read twice, one time with AUTOTUNE: what users run today is never out for other
        data. The check is off where the two readings differ, or where one fails.
        """
        configs = self._kept.candidates.values()
        size = next(iter(configs)).batch_size
        plain = PipelineConfig.no_prefetch(size).model_copy(update=dict(self._study.info.own))
        batches = max(batches_to_check(config) for config in configs)
        readings: list[list[str]] = []
        for config in (plain, PipelineConfig.autotune(size, **self._study.info.own)):
            spec = self._study.spec(config).model_copy(update={"digest_batches": batches})
            found = self._study.runner.read_data(spec, READ_PLAIN_S)
            if isinstance(found, TrialFailure):
                return PlainData(why_not=f"the data are not checked: {found.detail}")
            readings.append(found)
        each_batch = reference(*readings)
        if each_batch is None:
            return PlainData(
                why_not=(
                    "the data are not checked: two runs of the plain chain, one of them with "
                    "AUTOTUNE, differ already"
                )
            )
        return PlainData(each_batch=each_batch)
