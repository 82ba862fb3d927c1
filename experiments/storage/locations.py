"""Where results live: the local `mlruns/`, or the servers that a person names."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from prefetch_tuning.experiments.errors import StoreError

LOCAL = "mlruns"


@dataclass(frozen=True)
class Store:
    """Addresses of the Optuna storage and the MLflow tracking server.

    Attributes:
        storage_url: SQLAlchemy URL of the studies.
        tracking_uri: of MLflow.
        artifacts: folder of artifacts; None leaves their place to the tracking server.
        folder: the local `mlruns/`; None where neither address needs it.
    """

    storage_url: str
    tracking_uri: str
    artifacts: Path | None
    folder: Path | None

    @classmethod
    def choose(cls, directory: Path, storage: str | None, tracking_uri: str | None) -> Store:
        """Local by default; `MLFLOW_TRACKING_URI` comes after an address given here.

        Raises:
            StoreError: the local folder is needed and cannot be written, or an address is wrong.
        """
        folder = directory / LOCAL
        # An empty variable is an unset one.
        tracking_uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or None
        if tracking_uri is not None and sqlite_file(tracking_uri) == folder / "mlflow.db":
            tracking_uri = None  # the local one, spelt out
        local_tracking = tracking_uri is None
        if storage is not None and "://" not in storage:
            raise StoreError(f"{storage!r} is no address; give one like sqlite:///results.db")
        for address in filter(None, (storage, tracking_uri)):
            check_sqlite_folder(address)
        if storage is None or local_tracking:
            check_writable(folder)
        return cls(
            storage_url=storage or f"sqlite:///{folder / 'optuna.db'}",
            tracking_uri=tracking_uri or f"sqlite:///{folder / 'mlflow.db'}",
            artifacts=folder / "artifacts" if local_tracking else None,
            folder=folder if storage is None or local_tracking else None,
        )

    def first_connection(self) -> AbstractContextManager[object]:
        """Held while a database is opened: two that find it empty would both make its tables."""
        return FileLock(self.folder / ".lock") if self.folder else nullcontext()

    def check_exists(self) -> None:
        """For what reads: it must not make an empty database.

        Raises:
            StoreError: nothing was ever kept here.
        """
        if self.folder is not None and not self.folder.is_dir():
            raise StoreError(
                f"there is no {self.folder}; run this where prefetch-tune tune ran, or name the "
                "place with --storage and --tracking-uri"
            )

    def create(self) -> None:
        """Makes the local folder; the databases in it are made by those who own them.

        Raises:
            StoreError: it cannot be made.
        """
        if self.folder is None:
            return
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot make {self.folder}: {error.strerror}") from error


def check_sqlite_folder(address: str) -> None:
    """Checks that the folder of a SQLite database exists; other addresses are not looked at.

    MLflow tries for minutes to open a database in a folder that is not there.

    Raises:
        StoreError: it does not exist.
    """
    file = sqlite_file(address)
    if file is not None and not file.parent.is_dir():
        raise StoreError(f"{address!r}: the folder {file.parent} does not exist; make it first")


def sqlite_file(address: str) -> Path | None:
    """The file of a SQLite address; None for any other."""
    if not address.startswith("sqlite:///"):
        return None
    return Path(address.removeprefix("sqlite:///")).absolute()


def check_writable(folder: Path) -> None:
    """Checks that results can be kept under `folder` without making anything.

    Raises:
        StoreError: it is no folder, or not writable.
    """
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder} is not a folder; results are kept there: move it away")
    nearest = folder if folder.exists() else folder.parent
    targets = [nearest, *nearest.glob("*.db")] if nearest == folder else [nearest]
    for target in targets:
        if not os.access(target, os.W_OK):
            raise StoreError(
                f"cannot write {target}; make it writable, or run where results can be kept"
            )
