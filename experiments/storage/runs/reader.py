"""Reads MLflow's runs: one run by its id, a study's children, or the results of a search."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from prefetch_tuning.experiments.errors import StoreError, StudyError, first_line
from prefetch_tuning.experiments.storage.locations import Store, check_answers
from prefetch_tuning.experiments.storage.schema import STEP_TIME, Kind, Tag
from prefetch_tuning.pipelines.printable import printable, printable_json
from prefetch_tuning.pipelines.source import PipelineError
from prefetch_tuning.pipelines.step_time import StepTime

# A run that waits to be delivered is known by this and its own id.
KEPT = "kept-"
# MLflow's codes for an id that no run has, and for a text that can't be one.
NO_SUCH_RUN = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


@dataclass(frozen=True)
class LoggedRun:
    """A run as stored in MLflow; `started_s` is in seconds since the epoch, like `time.time`."""

    run_id: str
    name: str
    status: str
    started_s: float
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]
    artifact_uri: str = ""
    experiment_id: str = ""

    @classmethod
    def of(cls, run: Run) -> LoggedRun:
        data = run.data
        return cls(
            run_id=str(run.info.run_id),
            name=printable(str(run.info.run_name)),
            status=str(run.info.status),
            started_s=run.info.start_time / 1_000.0,
            params=printable_json(data.params),
            metrics={printable(key): value for key, value in data.metrics.items()},
            tags=printable_json(data.tags),
            artifact_uri=printable(str(run.info.artifact_uri)),
            experiment_id=str(run.info.experiment_id),
        )


class RunReader:
    """Reads runs from one tracking server."""

    def __init__(self, store: Store) -> None:
        """Connects to the server, which creates the tables of a new local database.

        Raises:
            StoreError: the tracking server doesn't answer, or the database cannot be opened.
        """
        # They log "Creating initial MLflow database tables...", and a traceback for each error that
        # they also raise.
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._store = store
        # MLflow's default of seven retries means two minutes without any message.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
        # It would send usage data from a thread beside a measurement.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        # It would print two lines for each trial.
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        check_answers(store.tracking_uri)
        with self.one_line(), store.first_connection():
            self._client = MlflowClient(tracking_uri=store.tracking_uri)
            self._client.search_experiments(max_results=1)

    def read(self, run_id: str) -> LoggedRun:
        """Reads a run that the user named.

        Raises:
            StudyError: there is no run with this id.
        """
        run = self.find(run_id)
        if run is None:
            raise StudyError(f"no run {run_id!r} in MLflow at {self._store.tracking_uri}")
        found = LoggedRun.of(run)
        return self.read(found.tags[Tag.REPLACED_BY]) if Tag.REPLACED_BY in found.tags else found

    def step_time(self, run_id: str) -> StepTime:
        """The time of a step that `prefetch-tune step-time` logged.

        Raises:
            StudyError: there is no such run, or it has no step time.
        """
        run = self.read(run_id)
        try:
            found = StepTime.parse(run.params[STEP_TIME])
        except (KeyError, PipelineError):
            raise StudyError(
                f"run {run_id!r} ({run.name}) has no step time; prefetch-tune step-time logs one"
            ) from None
        return found.model_copy(update={"accelerator": f"run-{run.run_id[:8]}"})

    def experiment_of(self, run_id: str) -> str:
        """The id of the experiment that a run belongs to."""
        return str(self._client.get_run(run_id).info.experiment_id)

    def read_text(self, run_id: str, path: str) -> str:
        """Reads a run's artifact as text.

        Raises:
            StudyError: there is no such run, or it has no such artifact.
        """
        run = self.read(run_id)
        try:
            with tempfile.TemporaryDirectory() as folder:
                found = self._client.download_artifacts(run.run_id, path, folder)
                return Path(found).read_text(encoding="utf-8")
        except (MlflowException, OSError):
            raise StudyError(
                f"run {run_id!r} ({run.name}) has no {path}; a study has one if it recommends "
                "something"
            ) from None

    def place_of(self, run_id: str, path: str) -> str:
        """Where an artifact of a run can be found: a local path, if it is one, or words."""
        address = urlsplit(self.read(run_id).artifact_uri)
        local = Path(url2pathname(address.path)) / path
        if address.scheme not in ("", "file") or not local.is_file():
            return f"artifact {path} of run {run_id}"
        here = Path.cwd()
        return str(local.relative_to(here) if local.is_relative_to(here) else local)

    def studies(self, pipeline: str | None = None) -> list[LoggedRun]:
        """Parent runs of one pipeline, or of all pipelines; the latest first."""
        return self.search(pipeline, f"tags.{Tag.KIND} = '{Kind.STUDY}'")[::-1]

    def children(self, parent_id: str) -> list[LoggedRun]:
        """All child runs of a study, the oldest first."""
        return self.search(None, f"tags.`{Tag.PARENT}` = '{parent_id}'")

    def search(self, pipeline: str | None, text: str) -> list[LoggedRun]:
        """Runs that match MLflow's filter `text`, of one pipeline or of all; the oldest first."""
        with self.one_line():
            return self._search(pipeline, text)

    def _search(self, pipeline: str | None, text: str) -> list[LoggedRun]:
        found: list[LoggedRun] = []
        token: str | None = None
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

    @contextmanager
    def one_line(self) -> Iterator[None]:
        """Turns errors of MLflow and its HTTP client into one line that names the address."""
        try:
            yield
        except (MlflowException, SQLAlchemyError, OSError) as error:
            reason = first_line(error)
            # Without a cause, which would show the address in full.
            raise StoreError(f"cannot use MLflow at {self._store.tracking_uri}: {reason}") from None

    def mlflow_id_of(self, run_id: str) -> str:
        """MLflow's id of a run, also if only its own id was known when it was measured."""
        if not run_id.startswith(KEPT):
            return run_id
        own_id = run_id.removeprefix(KEPT)
        found = self.search(None, f"tags.`{Tag.OWN_ID}` = '{own_id}'") if own_id.isalnum() else []
        return found[0].run_id if found else run_id

    def find(self, run_id: str) -> Run | None:
        """The run as stored in MLflow; None if there is no such run, or it was deleted.

        Raises:
            StoreError: the server failed, so nobody knows.
        """
        with self.one_line():
            try:
                run = self._client.get_run(self.mlflow_id_of(run_id))
            except MlflowException as error:
                if error.error_code not in NO_SUCH_RUN:
                    raise
                return None
        return run if run.info.lifecycle_stage == "active" else None
