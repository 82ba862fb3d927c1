"""Keeps runs that an MLflow server didn't take, and delivers them when it answers again.

A study continues if its server is gone: what was measured is also in Optuna's storage, and its runs
wait in a folder. Each run has its own id as a tag, so one that the server received in part, or
without confirming it, is completed and never written twice.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal
from uuid import uuid4

from filelock import FileLock
from mlflow.exceptions import MlflowException
from pydantic import BaseModel, ConfigDict, ValidationError
from requests import HTTPError

from prefetch_tuning.experiments.errors import StoreError, first_line, without_secrets
from prefetch_tuning.experiments.storage.locations import LOCAL, PORTS, Store, check_answers
from prefetch_tuning.experiments.storage.runs.drafts import RunDraft, Summary
from prefetch_tuning.experiments.storage.runs.reader import KEPT, LoggedRun
from prefetch_tuning.experiments.storage.runs.tracking import Tracker
from prefetch_tuning.experiments.storage.schema import Tag

FOLDER = "spool"
# From this HTTP status on, the server itself failed; with a lower one, it refused the request.
SERVER_ERROR = 500
ENDED = ("FINISHED", "FAILED", "KILLED")
KEPT_LINE = (
    "MLflow at {address} doesn't answer. Runs are kept in {folder}. They are delivered when it "
    "answers, or if you run in {directory}: {command}"
)
REFUSED = ".refused"
REFUSED_LINE = "MLflow at {address} refused a run, which stays in {file}: {reason}"


def sync_command(tracking_uri: str) -> str:
    """The command that delivers what waits for this server, without a password to show."""
    address = without_secrets(tracking_uri)
    if address != tracking_uri:
        return "prefetch-tune sync --tracking-uri ADDRESS, with the address that you gave"
    return f"prefetch-tune sync --tracking-uri {address}"


class Throttled(BaseModel):
    """A run whose round is measured again, and NVML's reasons."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    events: list[str]


class Kept(BaseModel):
    """One thing to deliver; exactly one of the fields is set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    run: RunDraft | None = None
    summary: Summary | None = None
    throttled: Throttled | None = None


class Spool:
    """The folder of what waits for one server, in the order in which it was measured."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of(cls, directory: Path, tracking_uri: str) -> Spool:
        """The spool under `directory` for this server; its folder need not exist."""
        name = hashlib.sha256(without_secrets(tracking_uri).encode()).hexdigest()[:12]
        return cls(directory / LOCAL / FOLDER / name)

    def __len__(self) -> int:
        return len(list(self._files()))

    def keep(self, kept: Kept) -> None:
        """Writes something that waits, so that a reader never sees half of it.

        Raises:
            StoreError: the folder cannot be written.
        """
        path = self.folder / f"{time.time_ns():020d}-{uuid4().hex[:8]}.json"
        temporary = path.with_suffix(".tmp")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("w", encoding="utf-8") as file:
                file.write(kept.model_dump_json())
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            raise StoreError(f"cannot keep a run in {self.folder}: {error.strerror}") from error

    def waiting(self) -> Iterator[tuple[Path, Kept]]:
        """What waits, the oldest first.

        Raises:
            StoreError: a file isn't one that `keep` wrote.
        """
        for path in self._files():
            try:
                yield path, Kept.model_validate_json(path.read_text(encoding="utf-8"))
            except (OSError, ValidationError, ValueError) as error:
                raise StoreError(
                    f"{path} isn't a run that was kept for MLflow; move it away"
                ) from error

    def lock(self) -> FileLock:
        """Held while things are delivered, so that two programs don't deliver the same."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / ".lock")

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*.json"))


class SpoolingTracker(Tracker):
    """A tracker that keeps what its server doesn't take; a local database is written as usual.

    Attributes:
        spool: what waits.
    """

    def __init__(self, store: Store, say: Callable[[str], None], directory: Path) -> None:
        """Delivers what an earlier program kept; `say` shows a line about what was kept.

        Raises:
            StoreError: the server doesn't answer now.
        """
        super().__init__(store)
        self.spool = Spool.of(directory, store.tracking_uri)
        self._directory = directory
        self._say = say
        self._is_server = store.tracking_uri.partition("://")[0] in PORTS
        self._is_gone = False
        if self._is_server and len(self.spool):
            self.deliver()

    def write(self, draft: RunDraft) -> str:
        own = KEPT + draft.own_id
        return self._or_keep(lambda: self._write(draft), Kept(run=draft), own)

    def end(self, summary: Summary) -> str:
        return self._or_keep(lambda: self._end(summary), Kept(summary=summary), summary.run_id)

    def mark_uncounted(self, run_id: str, events: Sequence[str] = ()) -> None:
        def mark() -> str:
            self._throttle(self.mlflow_id_of(run_id), events)
            return run_id

        self._or_keep(mark, Kept(throttled=Throttled(run_id=run_id, events=list(events))), run_id)

    def deliver(self) -> int:
        """Delivers what waits; returns how much that was.

        What the server refuses, as a run whose study was deleted, is set aside with a line.

        Raises:
            StoreError: the server failed. What was not delivered still waits.
        """
        count = 0
        with self.spool.lock():
            for path, kept in self.spool.waiting():
                with self.one_line():
                    try:
                        self._deliver(kept)
                    except (MlflowException, OSError) as error:
                        if self._is_outage(error):
                            raise
                        self._set_aside(path, error)
                        continue
                path.unlink()
                count += 1
        self._is_gone = False
        return count

    def _set_aside(self, path: Path, error: Exception) -> None:
        file = path.replace(path.with_suffix(REFUSED))
        address = without_secrets(self._store.tracking_uri)
        self._say(REFUSED_LINE.format(address=address, file=file, reason=first_line(error)))

    def _deliver(self, kept: Kept) -> None:
        if kept.run is not None:
            there = self._got(kept.run)
            if there is None:
                self._write(kept.run)
            elif there.status not in ENDED:
                self._fill(there.run_id, there.artifact_uri, kept.run)
        elif kept.summary is not None:
            self._end(kept.summary)
        elif kept.throttled is not None:
            self._throttle(self.mlflow_id_of(kept.throttled.run_id), kept.throttled.events)

    def _got(self, draft: RunDraft) -> LoggedRun | None:
        """The run if the server has it, whole or in part."""
        found = self.search(None, f"tags.`{Tag.OWN_ID}` = '{draft.own_id}'")
        return found[0] if found else None

    def _answers(self) -> bool:
        """Whether to write to the server: always, unless it was gone and is still gone."""
        if not self._is_gone:
            return True
        try:
            check_answers(self._store.tracking_uri)
            self.deliver()
        except StoreError:
            return False
        self._say("MLflow answers again, and the runs that were kept are delivered")
        return True

    def _or_keep(self, write: Callable[[], str], kept: Kept, otherwise: str) -> str:
        """Writes to the server; if it is gone, keeps what was to be written.

        Returns a run id: that of `write`, or `otherwise`.
        """
        if self._answers():
            with self.one_line():
                try:
                    return write()
                except (MlflowException, OSError) as error:
                    if not self._is_outage(error):
                        raise
        self._keep(kept)
        return otherwise

    def _is_outage(self, error: Exception) -> bool:
        if not self._is_server:
            return False
        if isinstance(error, MlflowException):
            return int(error.get_http_status_code()) >= SERVER_ERROR  # type: ignore[no-untyped-call]
        # What the client of artifacts raises if a server answers, but not with a success.
        answered = error.response if isinstance(error, HTTPError) else None
        return answered is None or answered.status_code >= SERVER_ERROR

    def _keep(self, kept: Kept) -> None:
        self.spool.keep(kept)
        if not self._is_gone:
            self._is_gone = True
            address = without_secrets(self._store.tracking_uri)
            command = sync_command(self._store.tracking_uri)
            said = {"address": address, "folder": self.spool.folder, "command": command}
            self._say(KEPT_LINE.format(directory=self._directory, **said))
