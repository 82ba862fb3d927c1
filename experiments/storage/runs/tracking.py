"""Writes runs to MLflow, each in one batch and by its explicit run id.

MLflow's active run is thread-local, and its fluent calls take several ms each.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlflow.entities import Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from prefetch_tuning.experiments.errors import StoreError
from prefetch_tuning.experiments.storage.config_file import CONFIG_FILE
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.runs.drafts import (
    Read,
    RunDraft,
    Summary,
    as_text,
    points,
    series,
)
from prefetch_tuning.experiments.storage.runs.notes import trial_note
from prefetch_tuning.experiments.storage.runs.reader import RunReader
from prefetch_tuning.experiments.storage.runs.views import (
    VIEW_TAG,
    View,
    studies_view,
    surplus,
    trials_view,
)
from prefetch_tuning.experiments.storage.schema import (
    RESULT_TAGS,
    STEP_TIME,
    Kind,
    Tag,
    limit_metrics,
    trial_metrics,
)
from prefetch_tuning.objectives.measurement import (
    LimitTerms,
    Measurement,
    PipelineInfo,
    TrialFailure,
)
from prefetch_tuning.objectives.spec import TrialSpec
from prefetch_tuning.pipelines.step_time import StepTime

# Makes the UI show runs and metrics first, not traces of prompts.
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
# The variable that gives MLflow's server the address of its database.
BACKEND = "MLFLOW_BACKEND_STORE_URI"
# MLflow takes at most 1,000 metrics per call.
BATCH = 1_000
# The rate of each window, as a series.
WINDOWS = "throughput/window_examples_per_s"
# MLflow's status for each state of a run. Only a trial that failed is FAILED.
STATUS = {
    "complete": "FINISHED",
    "infeasible": "FINISHED",
    "pruned": "KILLED",
    "interrupted": "KILLED",
    "failed": "FAILED",
}


class Tracker(RunReader):
    """Writes studies, trials and confirmation rounds as MLflow runs, and reads them."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        # The parent runs whose dataset is written.
        self._with_data: set[str] = set()

    def start_study(self, experiment: str, name: str, tags: Mapping[str, str]) -> str:
        """Creates a study's parent run and returns its run id."""
        with self.one_line():
            found = self._experiment_id(experiment)
            run = self._client.create_run(found, run_name=name, tags={**tags, Tag.KIND: Kind.STUDY})
            run_id = str(run.info.run_id)
            self._save_views(found, studies_view(), trials_view(run_id, name))
        return run_id

    def resume_study(self, run_id: str) -> str | None:
        """Marks an earlier parent run, or the one in its place, as running again.

        Returns its run id; None if the run no longer exists.
        """
        with self.one_line():
            if self.find(run_id) is None:
                return None
            current = self._current(run_id)
            self._client.update_run(current, status="RUNNING")
        return current

    def finish_study(
        self,
        run_id: str,
        *,
        interrupted: bool,
        params: Mapping[str, object],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        texts: Mapping[str, str],
    ) -> str:
        """Writes a study's summary and its `texts` as artifacts to the parent run, and ends it.

        Returns the parent's run id. It is another one if a parameter has changed, such as a
        recommended setting after more rounds.
        """
        summary = Summary(
            run_id=run_id,
            interrupted=interrupted,
            params=as_text(params),
            metrics=dict(metrics),
            tags=dict(tags),
            texts=dict(texts),
        )
        return self.end(summary)

    def end(self, summary: Summary) -> str:
        """Ends a study's parent run; returns the parent's run id."""
        with self.one_line():
            return self._end(summary)

    def _end(self, summary: Summary) -> str:
        run_id, params = self._current(summary.run_id), summary.params
        earlier = self._client.get_run(run_id).data
        known = earlier.params
        is_changed = any(known.get(key, new) != new for key, new in params.items())
        if is_changed or known.keys() - params.keys():  # what it no longer recommends must go, too
            run_id = self._replace_study(run_id)
            known = {}
        self._client.log_batch(
            run_id,
            metrics=[point.metric for point in points(summary.metrics)],
            params=[Param(key, new) for key, new in params.items() if key not in known],
            tags=[RunTag(key, value) for key, value in summary.tags.items()],
        )
        # What the study found before, and no longer finds, must not stay.
        for key in sorted((RESULT_TAGS & earlier.tags.keys()) - summary.tags.keys()):
            self._client.delete_tag(run_id, key)
        self._client.set_terminated(run_id, "KILLED" if summary.interrupted else "FINISHED")
        # Last, because a server may refuse the report, which is large.
        for path, text in summary.texts.items():
            self._client.log_text(run_id, text, path)
        return run_id

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

    def write(self, draft: RunDraft) -> str:
        """Writes a run that has ended; returns its run id."""
        with self.one_line():
            return self._write(draft)

    def _write(self, draft: RunDraft) -> str:
        if draft.parent_id is None:
            experiment = self._experiment_id(draft.experiment or draft.name)
        else:
            experiment = self.experiment_of(draft.parent_id)
        tags = {**draft.tags, Tag.OWN_ID: draft.own_id}
        run = self._client.create_run(
            experiment, start_time=draft.start_ms, run_name=draft.name, tags=tags
        )
        return self._fill(str(run.info.run_id), str(run.info.artifact_uri), draft)

    def _fill(self, run_id: str, artifact_uri: str, draft: RunDraft) -> str:
        """Writes everything but the run itself, and ends it."""
        params = [Param(key, value) for key, value in draft.params.items()]
        found = [point.metric for point in draft.points]
        self._client.log_batch(run_id, metrics=found[:BATCH], params=params)
        for start in range(BATCH, len(found), BATCH):
            self._client.log_batch(run_id, metrics=found[start : start + BATCH])
        if draft.read is not None:
            self._client.log_inputs(run_id, [draft.read.dataset_input])
            if draft.parent_id is not None and draft.parent_id not in self._with_data:
                self._client.log_inputs(draft.parent_id, [draft.read.dataset_input])
                self._with_data.add(draft.parent_id)
        if draft.texts:
            self._write_texts(artifact_uri, draft.texts)
        self._client.set_terminated(run_id, draft.status)
        return run_id

    def _write_texts(self, artifact_uri: str, texts: Mapping[str, str]) -> None:
        """Writes artifacts, by their file names.

        `MlflowClient.log_text` would keep a repository with a thread pool for every run: 7 KiB per
        trial.
        """
        repository = get_artifact_repository(artifact_uri, tracking_uri=self._store.tracking_uri)
        with tempfile.TemporaryDirectory() as folder:
            for name, text in texts.items():
                file = Path(folder, name)
                file.write_text(text, encoding="utf-8")
                repository.log_artifact(str(file))  # type: ignore[no-untyped-call]

    def mark_interrupted(self, run_id: str) -> None:
        """Marks the run of a trial whose study was killed before it recorded the result."""
        with self.one_line():
            self._interrupt(run_id)

    def _interrupt(self, run_id: str) -> None:
        self._client.set_tag(run_id, Tag.STATE, "interrupted")
        self._client.set_terminated(run_id, STATUS["interrupted"])

    def mark_uncounted(self, run_id: str, events: Sequence[str] = ()) -> None:
        """Marks a run of a round that is measured again, so that it doesn't count.

        Args:
            run_id: the run.
            events: what slowed the GPU down; empty if the round's node was lost.
        """
        with self.one_line():
            self._throttle(run_id, events)

    def _throttle(self, run_id: str, events: Sequence[str]) -> None:
        if events:
            self._client.set_tag(run_id, Tag.THROTTLED, ", ".join(events))
        self._interrupt(run_id)

    def _replace_study(self, run_id: str) -> str:
        """Creates a new parent run for a study, because MLflow doesn't let a parameter change.

        The children move to it. The earlier parent stays as it is, with a tag that leads here.
        """
        earlier = self._client.get_run(run_id)
        tags = {
            key: value
            for key, value in earlier.data.tags.items()
            if not key.startswith("mlflow.") or key == "mlflow.user"
        } | {Tag.KIND: Kind.STUDY}
        run = self._client.create_run(
            earlier.info.experiment_id,
            start_time=earlier.info.start_time,
            run_name=earlier.info.run_name,
            tags=tags,
        )
        new_id = str(run.info.run_id)
        if earlier.inputs is not None:
            self._client.log_inputs(new_id, earlier.inputs.dataset_inputs)
        # First, so that whoever goes on after an outage finds the new one.
        self._client.set_tag(run_id, Tag.REPLACED_BY, new_id)
        self._client.set_tag(run_id, Tag.KIND, Kind.REPLACED)
        self._move_children(run_id, new_id)
        self._client.set_terminated(run_id)
        name = str(earlier.info.run_name)
        self._save_views(earlier.info.experiment_id, trials_view(new_id, name))
        return new_id

    def _current(self, run_id: str) -> str:
        """The parent run that took this one's place, if any did, with all of its children."""
        found = self._client.get_run(run_id).data.tags.get(Tag.REPLACED_BY)
        if found is None:
            return run_id
        current = self._current(str(found))
        self._move_children(run_id, current)
        return current

    def _move_children(self, old: str, new: str) -> None:
        for child in self._search(None, f"tags.`{Tag.PARENT}` = '{old}'"):
            self._client.set_tag(child.run_id, Tag.PARENT, new)

    def _save_views(self, experiment: str, *views: View) -> None:
        """Saves views in an experiment. If there are too many, the oldest make room."""
        now_ms = int(time.time() * 1_000)
        # Other studies may write and remove the same views in the same moment.
        for view in views:
            key, value = VIEW_TAG + view.key, view.tag_value(now_ms)
            try:
                self._client.set_experiment_tag(experiment, key, value)
            except MlflowException:
                self._client.set_experiment_tag(experiment, key, value)
        for key in surplus(self._client.get_experiment(experiment).tags):
            with contextlib.suppress(MlflowException):
                self._client.delete_experiment_tag(experiment, key)

    def _experiment_id(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage == "active":
            return str(found.experiment_id)
        if found is not None:
            raise StoreError(
                f"the MLflow experiment {name!r} was deleted; restore it with "
                f"`mlflow experiments restore --experiment-id {found.experiment_id}`"
            )
        location = None if self._store.artifacts is None else self._store.artifacts.as_uri()
        try:
            return str(
                self._client.create_experiment(
                    name, artifact_location=location, tags=EXPERIMENT_TAGS
                )
            )
        except MlflowException:
            # Another study of a team's may have created it since.
            found = self._client.get_experiment_by_name(name)
            if found is None:
                raise
            return str(found.experiment_id)


def _rates(measured: Measurement) -> list[float]:
    return [window.rate for window in measured.windows]


def ui_command(port: int) -> list[str]:
    """The command of the MLflow UI on a database, whose address `BACKEND` gives it.

    On the command line, every user of the host could read a password in the address.
    """
    return [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
