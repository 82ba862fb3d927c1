"""Where results are stored: the local `mlruns/` folder, or servers that the user names."""

from __future__ import annotations

import os
import socket
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from filelock import FileLock

from prefetch_tuning.experiments.errors import StoreError

LOCAL = "mlruns"
# The ports of addresses without one, and how long a server may take to answer.
PORTS = {"http": 80, "https": 443}
ANSWER_S = 5.0
# How the address of an MLflow run begins.
RUNS = "runs:/"


@dataclass(frozen=True)
class Store:
    """Addresses of the Optuna storage and the MLflow tracking server.

    Attributes:
        storage_url: SQLAlchemy URL of the Optuna studies.
        tracking_uri: address of the MLflow tracking server.
        artifacts: folder for artifacts; None lets the tracking server choose the location.
        folder: the local `mlruns/`; None if neither address needs it.
    """

    storage_url: str
    tracking_uri: str
    artifacts: Path | None
    folder: Path | None

    @classmethod
    def choose(
        cls,
        directory: Path,
        storage: str | None,
        tracking_uri: str | None,
        *,
        runs_only: bool = False,
    ) -> Store:
        """Uses the given addresses, then `MLFLOW_TRACKING_URI`, then the local folder.

        With `runs_only`, Optuna's storage isn't used, so the folder isn't needed for it.

        Raises:
            StoreError: the local folder is needed and isn't writable, or an address is wrong.
        """
        folder = directory / LOCAL
        # An empty variable counts as unset.
        tracking_uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or None
        if tracking_uri is not None and sqlite_file(tracking_uri) == folder / "mlflow.db":
            tracking_uri = None  # it spells out the local default
        local_tracking = tracking_uri is None
        if storage is not None and "://" not in storage:
            raise StoreError(f"{storage!r} isn't an address; give one like sqlite:///results.db")
        for address in filter(None, (storage, tracking_uri)):
            check_sqlite_folder(address)
        is_local = local_tracking or (storage is None and not runs_only)
        if is_local:
            check_writable(folder)
        return cls(
            storage_url=storage or f"sqlite:///{folder / 'optuna.db'}",
            tracking_uri=tracking_uri or f"sqlite:///{folder / 'mlflow.db'}",
            artifacts=folder / "artifacts" if local_tracking else None,
            folder=folder if is_local else None,
        )

    @classmethod
    def within(cls, folder: Path) -> Store:
        """Databases and artifacts in this folder, whatever the environment says."""
        return cls(
            storage_url=f"sqlite:///{folder / 'optuna.db'}",
            tracking_uri=f"sqlite:///{folder / 'mlflow.db'}",
            artifacts=folder / "artifacts",
            folder=folder,
        )

    def first_connection(self) -> AbstractContextManager[object]:
        """A lock to hold while a database is opened.

        Without it, two processes that find the database empty would both create its tables.
        """
        if self.folder is None or not self.folder.is_dir():
            return nullcontext()
        return FileLock(self.folder / ".lock")

    def check_tracking_exists(self) -> None:
        """Checks that the local folder exists, if MLflow's data are in it.

        Raises:
            StoreError: nothing was ever stored here.
        """
        if self.artifacts is not None:
            self.check_exists()

    def check_exists(self) -> None:
        """Checks that the local folder exists, so that a command that reads creates no database.

        Raises:
            StoreError: nothing was ever stored here.
        """
        if self.folder is not None and not self.folder.is_dir():
            raise StoreError(
                f"there is no {self.folder}; run this in the directory where you ran "
                "prefetch-tune tune, or give --storage and --tracking-uri"
            )

    def create(self) -> None:
        """Creates the local folder. Optuna and MLflow create their own databases in it.

        Raises:
            StoreError: the folder cannot be created.
        """
        if self.folder is None:
            return
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot create {self.folder}: {error.strerror}") from error


def check_sqlite_folder(address: str) -> None:
    """Checks that the folder of a SQLite database exists. Other addresses are not checked.

    MLflow tries for minutes to open a database whose folder doesn't exist.

    Raises:
        StoreError: the folder does not exist.
    """
    file = sqlite_file(address)
    if file is not None and not file.parent.is_dir():
        raise StoreError(f"{address!r}: the folder {file.parent} does not exist; create it first")


def check_answers(address: str) -> None:
    """Checks that something listens at the address of a server; others are not checked.

    MLflow's client tries for longer, and every further command would, too.

    Raises:
        StoreError: nothing listens there.
    """
    found = urlsplit(address)
    if found.scheme not in PORTS or found.hostname is None or _has_proxy(found.hostname):
        return
    try:
        port = found.port or PORTS[found.scheme]
        with socket.create_connection((found.hostname, port), ANSWER_S):
            return
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StoreError(
            f"MLflow at {address} doesn't answer: {reason}; start it, or check --tracking-uri and "
            "MLFLOW_TRACKING_URI"
        ) from None


def _has_proxy(host: str) -> bool:
    return bool({"http", "https", "all"} & set(getproxies())) and not proxy_bypass(host)


def sqlite_file(address: str) -> Path | None:
    """The file of a SQLite address; None for any other address."""
    if not address.startswith("sqlite:///"):
        return None
    return Path(address.removeprefix("sqlite:///")).absolute()


def check_writable(folder: Path) -> None:
    """Checks that results can be stored under `folder`, without creating anything.

    Raises:
        StoreError: it isn't a folder, or isn't writable.
    """
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder} is not a folder, but results are stored there; move it away")
    nearest = folder if folder.exists() else folder.parent
    targets = [nearest, *nearest.glob("*.db")] if nearest == folder else [nearest]
    for target in targets:
        if not os.access(target, os.W_OK):
            raise StoreError(
                f"cannot write {target}; make it writable, or run in a directory that is writable"
            )
