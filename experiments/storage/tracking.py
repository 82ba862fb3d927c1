"""The only module that imports MLflow: explicit run ids, no active run, one batch a run."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from prefetch_tuning.experiments.errors import StoreError, StudyError, first_line
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.metrics import limit_metrics, trial_metrics
from prefetch_tuning.experiments.storage.notes import story
from prefetch_tuning.objectives.measurement import LimitTerms, Measurement, TrialFailure
from prefetch_tuning.objectives.spec import TrialSpec

# MLflow's own name for the tag that makes the UI group children under a parent.
PARENT = "mlflow.parentRunId"
NOTE = "mlflow.note.content"
# Has the UI show runs and metrics first, not traces of prompts.
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
# MLflow takes at most 1,000 metrics a call.
BATCH = 1_000
# What a run's state means in MLflow's words: only a trial that failed is FAILED.
STATUS = {
    "complete": "FINISHED",
    "infeasible": "FINISHED",
    "pruned": "KILLED",
    "interrupted": "KILLED",
    "failed": "FAILED",
}


@dataclass(frozen=True)
class LoggedRun:
    """A run as MLflow has it; `started_s` as `time.time` counts."""

    run_id: str
    name: str
    status: str
    started_s: float
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]

    @classmethod
    def of(cls, run: Run) -> LoggedRun:
        data = run.data
        return cls(
            run_id=str(run.info.run_id),
            name=str(run.info.run_name),
            status=str(run.info.status),
            started_s=run.info.start_time / 1_000.0,
            params=dict(data.params),
            metrics=dict(data.metrics),
            tags=dict(data.tags),
        )


class Tracker:
    """Writes studies, trials and confirmation rounds as MLflow runs."""

    def __init__(self, store: Store) -> None:
        """Connects, which creates the tables of a new local database.

        Raises:
            StoreError: the tracking server does not answer or the database cannot be opened.
        """
        for name in ("mlflow", "alembic"):  # "Creating initial MLflow database tables..."
            logging.getLogger(name).setLevel(logging.WARNING)
        self._store = store
        # MLflow's own seven retries are two minutes of silence before the first word.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
        with self._one_line(), store.first_connection():
            self._client = MlflowClient(tracking_uri=store.tracking_uri)
            self._client.search_experiments(max_results=1)

    def start_study(self, experiment: str, name: str, tags: Mapping[str, str]) -> str:
        """Makes the parent run of a study; returns its run id."""
        with self._one_line():
            run = self._client.create_run(
                self._experiment_id(experiment), run_name=name, tags={**tags, "kind": "study"}
            )
        return str(run.info.run_id)

    def resume_study(self, run_id: str) -> bool:
        """Marks an earlier parent run as running again; False where it is gone."""
        if self._find(run_id) is None:
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
    ) -> None:
        """Writes a study's summary to its parent run, `texts` as artifacts, and ends it."""
        with self._one_line():
            for path, text in texts.items():
                self._client.log_text(run_id, text, path)
            known = set(self._client.get_run(run_id).data.params)
            self._client.log_batch(
                run_id,
                metrics=_metrics(metrics),
                # A parameter cannot be changed: after a resume only new ones are written.
                params=[Param(key, str(new)) for key, new in params.items() if key not in known],
                tags=[RunTag(key, value) for key, value in tags.items()],
            )
            self._client.set_terminated(run_id, "KILLED" if interrupted else "FINISHED")

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
        """Writes one trial or round of a candidate as a finished child run; returns its run id.

        `began` is when the trial began (`time.time`), `more` metrics beyond the measured ones.

        Everything is written after the trial, in one go: a study that is killed leaves no run
        that seems to be running, and nothing is logged while something is measured.
        """
        note = story(spec, outcome, state, tags, more or {})
        tags = {**tags, "state": state, PARENT: parent_id, NOTE: note}
        metrics = _metrics(more or {})
        texts = {"spec.json": spec.to_json(), "config.json": spec.config.model_dump_json(indent=2)}
        if isinstance(outcome, TrialFailure):
            detail = outcome.detail[:4_000]
            tags |= {"failure.kind": outcome.kind, "failure.detail": detail}
            texts["output.txt"] = outcome.output
        else:
            metrics += _measured(outcome)
            if outcome.gpu is not None and outcome.gpu.throttled:
                tags["gpu_throttled"] = ", ".join(outcome.gpu.throttled)
            tags["digest.elements"] = outcome.digest.elements
            tags["digest.batches"] = outcome.digest.batches
            if outcome.output:
                texts["output.txt"] = outcome.output
        params = [Param(key, str(value)) for key, value in spec.to_params().items()]
        with self._one_line():
            experiment = self.experiment_of(parent_id)
            run = self._client.create_run(
                experiment, start_time=int(1_000 * began), run_name=name, tags=tags
            )
            run_id = str(run.info.run_id)
            self._client.log_batch(run_id, metrics=metrics[:BATCH], params=params)
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
        tags = {**tags, "state": "complete", PARENT: parent_id}
        tags[NOTE] = "What the step, the generator and the cores allow at most, each by itself."
        with self._one_line():
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
        with self._one_line():
            run = self._client.create_run(
                self._experiment_id("selftest"), run_name=name, tags={**tags, "kind": "selftest"}
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

    def read(self, run_id: str) -> LoggedRun:
        """A run that somebody names.

        Raises:
            StudyError: there is none.
        """
        run = self._find(run_id)
        if run is None:
            raise StudyError(f"no run {run_id!r} in MLflow at {self._store.tracking_uri}")
        return LoggedRun.of(run)

    def experiment_of(self, run_id: str) -> str:
        """The id of the experiment that a run belongs to."""
        return str(self._client.get_run(run_id).info.experiment_id)

    def read_text(self, run_id: str, path: str) -> str:
        """An artifact of a run.

        Raises:
            StudyError: there is no such run, or it has no such file.
        """
        run = self.read(run_id)
        try:
            with tempfile.TemporaryDirectory() as folder:
                found = self._client.download_artifacts(run_id, path, folder)
                return Path(found).read_text(encoding="utf-8")
        except (MlflowException, OSError):
            raise StudyError(f"run {run_id!r} ({run.name}) has no {path}") from None

    def studies(self, pipeline: str | None = None) -> list[LoggedRun]:
        """Parent runs, the latest first; of one pipeline, or of all."""
        return self.search(pipeline, "tags.kind = 'study'")[::-1]

    def children(self, parent_id: str) -> list[LoggedRun]:
        """All child runs of a study, oldest first."""
        return self.search(None, f"tags.`{PARENT}` = '{parent_id}'")

    def search(self, pipeline: str | None, text: str) -> list[LoggedRun]:
        """Runs that MLflow's search finds, oldest first; of one pipeline, or of all."""
        found: list[LoggedRun] = []
        token: str | None = None
        with self._one_line():
            experiments = [
                experiment.experiment_id
                for experiment in self._client.search_experiments()
                if pipeline in (None, experiment.name)
            ]
            while experiments:
                page = self._client.search_runs(
                    experiments,
                    filter_string=text,
                    order_by=["attributes.start_time ASC"],
                    page_token=token,
                )
                found.extend(LoggedRun.of(run) for run in page)
                token = page.token
                if not token:
                    break
        return found

    def mark_interrupted(self, run_id: str) -> None:
        """Marks a trial's run whose study was killed before it could take the result."""
        self._client.set_tag(run_id, "state", "interrupted")
        self._client.set_terminated(run_id, STATUS["interrupted"])

    def mark_throttled(self, run_id: str, events: Sequence[str]) -> None:
        """Marks a run of a round that is measured again, because the GPU was held back in it.

        It counts as little as one whose round was broken off.
        """
        with self._one_line():
            self._client.set_tag(run_id, "throttled", ", ".join(events))
            self.mark_interrupted(run_id)

    @contextmanager
    def _one_line(self) -> Iterator[None]:
        """Turns what MLflow and its HTTP client raise into one line that names the address."""
        try:
            yield
        except (MlflowException, OSError) as error:
            reason = first_line(error)
            raise StoreError(
                f"cannot use MLflow at {self._store.tracking_uri}: {reason}"
            ) from error

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

    def _find(self, run_id: str) -> Run | None:
        try:
            run = self._client.get_run(run_id)
        except MlflowException:
            return None
        return run if run.info.lifecycle_stage == "active" else None


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


def ui_command(tracking_uri: str) -> str:
    """The command that opens a local database in the MLflow UI."""
    words = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", tracking_uri]
    return shlex.join([*words, "--host", "127.0.0.1", "--port", "5000"])
