"""Opens Optuna studies: creates a new one, continues one, or loads one to read."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
import time
import warnings
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import optuna
from filelock import FileLock, Timeout
from sqlalchemy.exc import IntegrityError, ProgrammingError

from prefetch_tuning.experiments.errors import StoreError, StudyError, first_line
from prefetch_tuning.experiments.host.environment import host_fingerprint
from prefetch_tuning.experiments.settings import StudySettings
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.objectives.pipeline_info import PipelineInfo

# Two studies that find a server's database empty both create its tables, and one of them gets an
# error. It tries again after these seconds.
CREATION_WAITS_S = (0.5, 1.0, 2.0)
# How messages name what a user knows by other words.
SAID = {
    "source_digest": "source (SHA-256)",
    "host.fingerprint": "host",
    "generator_cluster": "--generator-cluster",
}


def open_study(
    settings: StudySettings,
    info: PipelineInfo,
    store: Store,
    host: str | None = None,
    *,
    generator_cluster: bool = False,
) -> optuna.Study:
    """Creates the Optuna study, or loads it and checks that it can be continued.

    `host` and `generator_cluster` are as in `check_identity`.

    Raises:
        StoreError: the storage cannot be opened.
        StudyError: the study of this name measured something else.
    """
    try:
        study = optuna.create_study(
            study_name=settings.name,
            storage=_storage(store),
            direction=settings.goal.direction,
            load_if_exists=True,
        )
    except Exception as error:
        raise _unusable(store, error) from None  # a cause would show the address in full
    check_identity(study, settings, info, host, generator_cluster=generator_cluster)
    return study


@contextlib.contextmanager
def run_alone(name: str, store: Store) -> Iterator[None]:
    """Keeps other processes of this host from running the same study during the block.

    A study that is resumed takes the running trial of another process for a leftover of a killed
    one, and ends it.

    Raises:
        StudyError: another process is running it.
    """
    digest = hashlib.sha256(f"{store.storage_url}\0{name}".encode()).hexdigest()[:12]
    path = Path(tempfile.gettempdir()) / f"prefetch-tuning-{digest}.lock"
    lock = FileLock(path, mode=0o666)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise StudyError(
            f"another process of this host is running study {name!r}; wait for it, or give "
            "another --study"
        ) from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()


def all_studies(store: Store) -> list[optuna.study.StudySummary]:
    """Every study in the storage, also those of other programs; the latest first.

    Raises:
        StoreError: the storage cannot be opened.
    """
    store.check_exists()
    try:
        found = optuna.get_all_study_summaries(_storage(store), include_best_trial=False)
    except Exception as error:
        raise _unusable(store, error) from None
    return sorted(found, key=lambda s: (s.datetime_start or datetime.min, s._study_id))[::-1]


def load_study(name: str, store: Store) -> optuna.Study:
    """Loads an existing study.

    Raises:
        StoreError: the storage cannot be opened.
        StudyError: no study has this name; the message lists those that exist.
    """
    store.check_exists()
    try:
        storage = _storage(store)
        names = optuna.get_all_study_names(storage)
        if name in names:
            return optuna.load_study(study_name=name, storage=storage)
    except Exception as error:
        raise _unusable(store, error) from None
    earlier, shown = sorted(names)[:-8], sorted(names)[-8:]
    there = ", ".join([*(["..."] if earlier else []), *shown])
    there = there or "none yet; create one with prefetch-tune tune"
    raise StudyError(f"no study named {name!r} in {store.storage_url} (there are: {there})")


def check_identity(
    study: optuna.Study,
    settings: StudySettings,
    info: PipelineInfo,
    host: str | None = None,
    *,
    generator_cluster: bool = False,
) -> None:
    """Stores what a study's trials have in common, or checks that it hasn't changed.

    `host` says what measures if it isn't this host, and `generator_cluster` whether other hosts run
    the generator.

    Raises:
        StudyError: something changed, so earlier and later trials would not be comparable.
    """
    identity = {
        "pipeline": info.target,
        "source_digest": info.source_digest,
        "device": info.device,
        "host.fingerprint": host or host_fingerprint(),
        "objective": settings.objective or "throughput",
        "target": settings.goal.target,
        "axes": settings.axes,
        "batch_sizes": info.batch_sizes if settings.batch_size is None else [settings.batch_size],
        "seed": settings.seed,
        "memory_limit_mib": settings.memory_limit_mib,
        "generator_cluster": generator_cluster,
    }
    for key, value in identity.items():
        if key not in study.user_attrs:
            study.set_user_attr(key, value)
        elif study.user_attrs[key] != value:
            raise StudyError(
                f"study {settings.name!r} was made with {SAID.get(key, key)} "
                f"{_short(study.user_attrs[key])}, now it is {_short(value)}, so trials would not "
                "be comparable; tune again with a new --study name"
            )


def _storage(store: Store) -> optuna.storages.BaseStorage:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    with store.first_connection():
        for wait_s in CREATION_WAITS_S:
            try:
                return optuna.storages.RDBStorage(store.storage_url)
            except (IntegrityError, ProgrammingError):
                time.sleep(wait_s)
        return optuna.storages.RDBStorage(store.storage_url)


def _unusable(store: Store, error: Exception) -> StoreError:
    return StoreError(f"cannot use the Optuna storage {store.storage_url}: {first_line(error)}")


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else text[:12] + "..."
