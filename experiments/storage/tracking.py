"""Writes runs to MLflow, each in one batch and by its explicit run id.

MLflow's active run is thread-local, and its fluent calls take several ms each.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

from prefetch_tuning.experiments.errors import StoreError
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.notes import trial_note
from prefetch_tuning.experiments.storage.runs import CONFIG_FILE, RunReader
from prefetch_tuning.experiments.storage.schema import (
    STEP_TIME,
    Kind,
    Tag,
    limit_metrics,
    trial_metrics,
)
from prefetch_tuning.experiments.storage.views import (
    VIEW_TAG,
    View,
    studies_view,
    surplus,
    trials_view,
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
# MLflow takes at most 36 characters as the digest of a dataset.
DIGEST_CHARACTERS = 36
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

    def resume_study(self, run_id: str) -> bool:
        """Marks an earlier parent run as running again; False if the run no longer exists."""
        if self.find(run_id) is None:
            return False
        self._client.update_run(run_id, status="RUNNING")
        return True

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
        with self.one_line():
            known = self._client.get_run(run_id).data.params
            if any(known.get(key, str(new)) != str(new) for key, new in params.items()):
                run_id = self._replace_study(run_id)
                known = {}
            for path, text in texts.items():
                self._client.log_text(run_id, text, path)
            self._client.log_batch(
                run_id,
                metrics=_metrics(metrics),
                params=[Param(key, str(new)) for key, new in params.items() if key not in known],
                tags=[RunTag(key, value) for key, value in tags.items()],
            )
            self._client.set_terminated(run_id, "KILLED" if interrupted else "FINISHED")
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
        metrics = _metrics(more or {})
        texts = {"spec.json": spec.to_json(), CONFIG_FILE: spec.config.model_dump_json(indent=2)}
        if isinstance(outcome, TrialFailure):
            detail = outcome.detail[:4_000]
            tags |= {Tag.FAILURE_KIND: outcome.kind, Tag.FAILURE_DETAIL: detail}
            texts["output.txt"] = outcome.output
        else:
            metrics += _measured(outcome)
            if outcome.gpu is not None and outcome.gpu.throttled:
                tags[Tag.GPU_THROTTLED] = ", ".join(outcome.gpu.throttled)
            tags[Tag.ELEMENTS_DIGEST] = outcome.digest.elements
            tags[Tag.BATCHES_DIGEST] = outcome.digest.batches
            if outcome.output:
                texts["output.txt"] = outcome.output
        params = [Param(key, str(value)) for key, value in spec.to_params().items()]
        with self.one_line():
            experiment = self.experiment_of(parent_id)
            run = self._client.create_run(
                experiment, start_time=int(1_000 * began), run_name=name, tags=tags
            )
            run_id = str(run.info.run_id)
            self._client.log_batch(run_id, metrics=metrics[:BATCH], params=params)
            if isinstance(outcome, Measurement):
                self._log_data(parent_id, run_id, tags.get(Tag.PIPELINE, ""), spec, outcome)
            for start in range(BATCH, len(metrics), BATCH):
                self._client.log_batch(run_id, metrics=metrics[start : start + BATCH])
            for path, text in texts.items():
                self._client.log_text(run_id, text, path)
            self._client.set_terminated(run_id, STATUS[state])
        return run_id

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
        with self.one_line():
            run = self._client.create_run(
                self.experiment_of(parent_id),
                start_time=int(1_000 * began),
                run_name=name,
                tags=tags,
            )
            run_id = str(run.info.run_id)
            self._client.log_batch(
                run_id,
                metrics=_metrics(limit_metrics(terms)),
                params=[Param("batch_size", str(batch_size))],
            )
            self._client.set_terminated(run_id, STATUS["complete"])
        return run_id

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
        now_ms = int(time.time() * 1_000)
        series = [
            Metric("selftest/ratio", ratio, now_ms, step) for step, ratio in enumerate(ratios)
        ]
        with self.one_line():
            run = self._client.create_run(
                self._experiment_id("selftest"),
                run_name=name,
                tags={**tags, Tag.KIND: Kind.SELFTEST},
            )
            run_id = str(run.info.run_id)
            self._client.log_batch(
                run_id,
                metrics=[*_metrics(metrics), *series[: BATCH - len(metrics)]],
                params=[Param(key, str(value)) for key, value in params.items()],
            )
            self._client.log_text(run_id, document, "selftest.json")
            self._client.set_terminated(run_id, "FINISHED")
        return run_id

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
        with self.one_line():
            run = self._client.create_run(
                self._experiment_id(info.name),
                run_name=f"step time on {info.device}",
                tags=all_tags,
            )
            run_id = str(run.info.run_id)
            self._client.log_batch(
                run_id,
                metrics=_metrics(metrics),
                params=[Param(STEP_TIME, str(step)), Param("pipeline", info.target)],
            )
            self._client.set_terminated(run_id, "FINISHED")
        return run_id

    def mark_interrupted(self, run_id: str) -> None:
        """Marks the run of a trial whose study was killed before it recorded the result."""
        self._client.set_tag(run_id, Tag.STATE, "interrupted")
        self._client.set_terminated(run_id, STATUS["interrupted"])

    def mark_throttled(self, run_id: str, events: Sequence[str]) -> None:
        """Marks a run of a round in which the GPU was held back, so the round is measured again.

        Like a run of an interrupted round, it doesn't count.
        """
        with self.one_line():
            self._client.set_tag(run_id, Tag.THROTTLED, ", ".join(events))
            self.mark_interrupted(run_id)

    def _log_data(
        self, parent_id: str, run_id: str, pipeline: str, spec: TrialSpec, measured: Measurement
    ) -> None:
        """Writes what a run read as its MLflow dataset, and to its study once."""
        dataset = Dataset(
            name=pipeline or spec.pipeline,
            digest=measured.digest.elements[:DIGEST_CHARACTERS],
            source_type="code",
            source=json.dumps({"pipeline": spec.pipeline, "seed": spec.seed}),
        )
        read = DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])
        self._client.log_inputs(run_id, [read])
        if parent_id not in self._with_data:
            self._client.log_inputs(parent_id, [read])
            self._with_data.add(parent_id)

    def _replace_study(self, run_id: str) -> str:
        """Creates a new parent run for a study, because MLflow doesn't let a parameter change.

        The children move to it. The earlier parent stays as it is, with a tag that leads here.
        """
        earlier = self._client.get_run(run_id)
        tags = {
            key: value
            for key, value in earlier.data.tags.items()
            if not key.startswith("mlflow.") or key == "mlflow.user"
        }
        run = self._client.create_run(
            earlier.info.experiment_id,
            start_time=earlier.info.start_time,
            run_name=earlier.info.run_name,
            tags=tags,
        )
        new_id = str(run.info.run_id)
        for child in self.children(run_id):
            self._client.set_tag(child.run_id, Tag.PARENT, new_id)
        if earlier.inputs is not None:
            self._client.log_inputs(new_id, earlier.inputs.dataset_inputs)
        self._client.set_tag(run_id, Tag.KIND, Kind.REPLACED)
        self._client.set_tag(run_id, Tag.REPLACED_BY, new_id)
        self._client.set_terminated(run_id)
        name = str(earlier.info.run_name)
        self._save_views(earlier.info.experiment_id, trials_view(new_id, name))
        return new_id

    def _save_views(self, experiment: str, *views: View) -> None:
        """Saves views in an experiment. If there are too many, the oldest make room."""
        now_ms = int(time.time() * 1_000)
        for view in views:
            value = view.tag_value(now_ms)
            self._client.set_experiment_tag(experiment, VIEW_TAG + view.key, value)
        for key in surplus(self._client.get_experiment(experiment).tags):
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
        return str(
            self._client.create_experiment(name, artifact_location=location, tags=EXPERIMENT_TAGS)
        )


def _measured(measured: Measurement) -> list[Metric]:
    now_ms = int(time.time() * 1_000)
    windows = [
        Metric("throughput/window_examples_per_s", window.rate, now_ms, step)
        for step, window in enumerate(measured.windows)
    ]
    return _metrics(trial_metrics(measured)) + windows


def _metrics(values: Mapping[str, float]) -> list[Metric]:
    now_ms = int(time.time() * 1_000)
    return [Metric(key, float(value), now_ms, 0) for key, value in values.items()]


def ui_command(port: int) -> list[str]:
    """The command of the MLflow UI on a database, whose address `BACKEND` gives it.

    On the command line, every user of the host could read a password in the address.
    """
    return [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
