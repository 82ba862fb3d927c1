"""Writes runs that have ended to MLflow, each in one batch and by its explicit run id.

MLflow's active run is thread-local, and its fluent calls take several ms each.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from mlflow.entities import Param
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from prefetch_tuning.experiments.errors import StoreError
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.runs.drafts import RunDraft
from prefetch_tuning.experiments.storage.runs.reader import RunReader
from prefetch_tuning.experiments.storage.runs.views import VIEW_TAG, View, surplus
from prefetch_tuning.experiments.storage.schema import Tag

# Makes the UI show runs and metrics first, not traces of prompts.
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
# MLflow takes at most 1,000 metrics per call.
BATCH = 1_000


class RunWriter(RunReader):
    """Writes runs to one tracking server, in experiments that it creates as they are needed."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        # The parent runs whose dataset is written.
        self._with_data: set[str] = set()

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
