"""Writes trials, confirmation rounds, self-tests and step times as MLflow runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from prefetch_tuning.experiments.storage.config_file import CONFIG_FILE
from prefetch_tuning.experiments.storage.runs.drafts import Read, RunDraft, as_text, points, series
from prefetch_tuning.experiments.storage.runs.notes import trial_note
from prefetch_tuning.experiments.storage.runs.parents import STATUS, ParentWriter
from prefetch_tuning.experiments.storage.schema import (
    STEP_TIME,
    Kind,
    Tag,
    limit_metrics,
    trial_metrics,
)
from prefetch_tuning.objectives.measurement import LimitTerms, Measurement, TrialFailure
from prefetch_tuning.objectives.pipeline_info import PipelineInfo
from prefetch_tuning.objectives.spec import TrialSpec
from prefetch_tuning.pipelines.step_time import StepTime

# The rate of each window, as a series.
WINDOWS = "throughput/window_examples_per_s"


class Tracker(ParentWriter):
    """Writes studies, trials and confirmation rounds as MLflow runs, and reads them."""

    def log_trial(
        self,
        parent_id: str,
        name: str,
        spec: TrialSpec,
        outcome: Measurement | TrialFailure,
        state: str,
        tags: Mapping[str, str],
        began: float,
        more: Mapping[str, float] | None = None,
    ) -> str:
        """Writes a trial, or a candidate's round, as a finished child run; returns its run id.

        `began` is the trial's start (`time.time`); `more` has metrics beyond the measured ones.

        Everything is written at once, after the trial. So a killed study leaves no run that seems
        to be running, and nothing is logged during a measurement.
        """
        note = trial_note(spec, outcome, state, tags, more or {})
        tags = {**tags, Tag.STATE: state, Tag.PARENT: parent_id, Tag.NOTE: note}
        if spec.generator_cluster is not None:
            tags[Tag.GENERATOR_CLUSTER] = "true"
        found, read = points(more or {}), None
        texts = {"spec.json": spec.to_json(), CONFIG_FILE: spec.config.model_dump_json(indent=2)}
        if isinstance(outcome, TrialFailure):
            detail = outcome.detail[:4_000]
            tags |= {Tag.FAILURE_KIND: outcome.kind, Tag.FAILURE_DETAIL: detail}
            texts["output.txt"] = outcome.output
        else:
            found += [*points(trial_metrics(outcome)), *series(WINDOWS, _rates(outcome))]
            read = Read(
                name=tags.get(Tag.PIPELINE) or spec.pipeline,
                digest=outcome.digest.elements,
                source=json.dumps({"pipeline": spec.pipeline, "seed": spec.seed}),
            )
            if outcome.node is not None:
                tags[Tag.NODE] = outcome.node
            if outcome.gpu is not None and outcome.gpu.throttled:
                tags[Tag.GPU_THROTTLED] = ", ".join(outcome.gpu.throttled)
            tags[Tag.ELEMENTS_DIGEST] = outcome.digest.elements
            tags[Tag.BATCHES_DIGEST] = outcome.digest.batches
            if outcome.output:
                texts["output.txt"] = outcome.output
        return self.write(
            RunDraft(
                parent_id=parent_id,
                name=name,
                start_ms=int(1_000 * began),
                status=STATUS[state],
                tags=tags,
                params=as_text(spec.to_params()),
                points=found,
                texts=texts,
                read=read,
            )
        )

    def log_limit(
        self,
        parent_id: str,
        name: str,
        batch_size: int,
        terms: LimitTerms,
        tags: Mapping[str, str],
        began: float,
    ) -> str:
        """Writes the limit's terms of one round as a finished child run; returns its run id."""
        tags = {**tags, Tag.STATE: "complete", Tag.PARENT: parent_id}
        tags[Tag.NOTE] = "The rate that step, generator and cores would each allow alone."
        return self.write(
            RunDraft(
                parent_id=parent_id,
                name=name,
                start_ms=int(1_000 * began),
                status=STATUS["complete"],
                tags=tags,
                params={"batch_size": str(batch_size)},
                points=points(limit_metrics(terms)),
            )
        )

    def log_selftest(
        self,
        name: str,
        tags: Mapping[str, str],
        params: Mapping[str, object],
        metrics: Mapping[str, float],
        ratios: Sequence[float],
        document: str,
    ) -> str:
        """Writes a self-test as one run of the experiment `selftest`; returns its run id."""
        return self.write(
            RunDraft(
                experiment="selftest",
                name=name,
                tags={**tags, Tag.KIND: Kind.SELFTEST},
                params=as_text(params),
                points=[*points(metrics), *series("selftest/ratio", ratios)],
                texts={"selftest.json": document},
            )
        )

    def log_step_time(
        self,
        info: PipelineInfo,
        step: StepTime,
        seconds: Mapping[int, float],
        tags: Mapping[str, str],
    ) -> str:
        """Writes a measured step as one run of the pipeline's experiment; returns its run id.

        Args:
            info: the pipeline.
            step: the time that emulates its step; the parameter `step_time`.
            seconds: the measured seconds of a step by batch size.
            tags: where and with what it was measured.
        """
        all_tags: dict[str, str] = {
            **tags,
            Tag.KIND: Kind.STEP_TIME,
            Tag.PIPELINE: info.name,
            Tag.DEVICE: info.device,
        }
        metrics = {f"step_ms/batch_{size}": 1e3 * each for size, each in seconds.items()}
        return self.write(
            RunDraft(
                experiment=info.name,
                name=f"step time on {info.device}",
                tags=all_tags,
                params={STEP_TIME: str(step), "pipeline": info.target},
                points=points(metrics),
            )
        )


def _rates(measured: Measurement) -> list[float]:
    return [window.rate for window in measured.windows]
