"""Runs for a real MLflow server that is killed and started again: none lost, none twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from prefetch_tuning.experiments.cli import main
from prefetch_tuning.experiments.errors import StoreError
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.runs.drafts import RunDraft, points
from prefetch_tuning.experiments.storage.runs.reader import KEPT, LoggedRun
from prefetch_tuning.experiments.storage.runs.spool import (
    Kept,
    Spool,
    SpoolingTracker,
    sync_command,
)
from prefetch_tuning.experiments.storage.runs.tracking import Tracker
from prefetch_tuning.experiments.storage.schema import Tag
from tests.storage.runs.test_tracking import BEGAN, SPEC
from tests.support.fakes import measurement
from tests.support.mlflow_server import MlflowServer

# Each start of the server takes seconds.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's client gives up at once. A test needn't wait for its retries."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def opened(server: MlflowServer, folder: Path, said: list[str] | None = None) -> SpoolingTracker:
    store = Store.choose(folder, None, server.address)
    return SpoolingTracker(store, (said if said is not None else []).append, folder)


def trial(tracker: Tracker, parent: str, number: int) -> str:
    tags: dict[str, str] = {Tag.PIPELINE: "simple"}
    name = f"#{number:02d}"
    return tracker.log_trial(parent, name, SPEC, measurement(), "complete", tags, BEGAN)


def finish(tracker: Tracker, parent: str) -> None:
    tracker.finish_study(
        parent, interrupted=False, params={"a": 1}, metrics={"m": 2.0}, tags={}, texts={"n": "x"}
    )


def names(runs: list[LoggedRun]) -> list[str]:
    return sorted(run.name for run in runs)


def test_a_study_goes_on_while_its_server_is_gone_and_everything_is_delivered_once(
    server: MlflowServer, tmp_path: Path
) -> None:
    said: list[str] = []
    tracker = opened(server, tmp_path, said)
    parent = tracker.start_study("simple", "a study", {})
    trial(tracker, parent, 0)
    server.kill()
    lost = trial(tracker, parent, 1)
    trial(tracker, parent, 2)
    finish(tracker, parent)

    assert lost.startswith(KEPT)
    assert len(tracker.spool) == 3
    assert len(said) == 1
    assert "prefetch-tune sync" in said[0]

    server.start()
    reader = opened(server, tmp_path)
    assert len(reader.spool) == 0
    assert names(reader.children(parent)) == ["#00", "#01", "#02"]
    assert all(run.status == "FINISHED" for run in reader.children(parent))
    found = reader.read(lost)  # by the id that it had before MLflow gave it one
    assert (found.name, found.params["batch_size"]) == ("#01", "64")
    ended = reader.read(parent)
    assert (ended.status, ended.params["a"], ended.metrics["m"]) == ("FINISHED", "1", 2.0)


def test_when_the_server_answers_again_the_study_itself_delivers_in_order(
    server: MlflowServer, tmp_path: Path
) -> None:
    said: list[str] = []
    tracker = opened(server, tmp_path, said)
    parent = tracker.start_study("simple", "another study", {})
    server.kill()
    trial(tracker, parent, 0)
    server.start()
    trial(tracker, parent, 1)

    assert len(tracker.spool) == 0
    assert names(tracker.children(parent)) == ["#00", "#01"]
    assert "answers again" in said[-1]


@pytest.mark.parametrize("part", ["nothing", "the run", "all of it"])
def test_what_the_server_got_in_part_is_completed_and_not_written_twice(
    server: MlflowServer, tmp_path: Path, part: str
) -> None:
    """Whatever the server wrote before it was gone, without saying so."""
    tracker = opened(server, tmp_path)
    parent = tracker.start_study("simple", f"study with {part}", {})
    tags: dict[str, str] = {Tag.PARENT: parent}
    draft = RunDraft(parent_id=parent, name="#00", tags=tags, points=points({"m": 1}))
    if part == "the run":
        tags |= {Tag.OWN_ID: draft.own_id}
        tracker._client.create_run(tracker.experiment_of(parent), run_name="#00", tags=tags)
    elif part == "all of it":
        tracker.write(draft)
    tracker.spool.keep(Kept(run=draft))

    assert tracker.deliver() == 1
    assert tracker.deliver() == 0
    (run,) = tracker.children(parent)
    assert (run.status, run.metrics["m"]) == ("FINISHED", 1.0)


def test_sync_delivers_from_the_command_line(
    server: MlflowServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    tracker = opened(server, tmp_path)
    parent = tracker.start_study("simple", "a third study", {})
    tracker.spool.keep(Kept(run=RunDraft(parent_id=parent, name="#00", tags={Tag.PARENT: parent})))

    assert main(["sync", "--tracking-uri", server.address]) == 0
    assert capsys.readouterr().out == f"delivered 1 run to {server.address}\n"
    assert main(["sync", "--tracking-uri", server.address]) == 0
    assert capsys.readouterr().out == f"nothing waits for {server.address}\n"
    assert names(tracker.children(parent)) == ["#00"]


def test_a_server_that_is_not_there_at_the_start_is_one_line_within_seconds(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="doesn't answer"):
        Tracker(Store.choose(tmp_path, None, "http://127.0.0.1:9"))


def test_what_a_server_refuses_is_an_error_and_not_kept(
    server: MlflowServer, tmp_path: Path
) -> None:
    tracker = opened(server, tmp_path)
    with pytest.raises(StoreError):
        tracker.write(RunDraft(parent_id="f" * 32, name="#00", tags={}))
    assert len(tracker.spool) == 0


def test_a_kept_run_that_the_server_refuses_is_set_aside_and_the_rest_is_delivered(
    server: MlflowServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The study of the first one was deleted for good."""
    monkeypatch.chdir(tmp_path)
    tracker = opened(server, tmp_path)
    parent = tracker.start_study("simple", "a fourth study", {})
    for owner in ("f" * 32, parent):
        tags: dict[str, str] = {Tag.PARENT: owner}
        tracker.spool.keep(Kept(run=RunDraft(parent_id=owner, name="#00", tags=tags)))

    assert main(["sync", "--tracking-uri", server.address]) == 1
    said = capsys.readouterr().out.splitlines()
    assert "refused a run, which stays in" in said[0]
    assert said[1:] == [f"delivered 1 run to {server.address}"]
    assert names(tracker.children(parent)) == ["#00"]
    assert len(list(tracker.spool.folder.glob("*.refused"))) == 1
    assert len(tracker.spool) == 0


@pytest.mark.parametrize(("status", "outage"), [(403, False), (413, False), (503, True), (0, True)])
def test_an_artifact_that_is_refused_is_no_outage(
    server: MlflowServer, tmp_path: Path, status: int, outage: bool
) -> None:
    tracker = opened(server, tmp_path)
    error = requests.HTTPError("no")
    if status:
        error.response = requests.Response()
        error.response.status_code = status

    assert tracker._is_outage(error) is outage


def test_the_command_to_type_has_no_password() -> None:
    assert sync_command("http://mlflow:5000").endswith("--tracking-uri http://mlflow:5000")
    assert "s3cr3t" not in sync_command("http://me:s3cr3t@mlflow:5000")
    assert "***" not in sync_command("http://me:s3cr3t@mlflow:5000")


def test_a_file_that_is_none_of_ours_is_named_and_left_alone(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    (tmp_path / "00-x.json").write_text('{"run": {"name": 1}, "evil": true}')

    with pytest.raises(StoreError, match="00-x"):
        list(spool.waiting())
    assert (tmp_path / "00-x.json").exists()


def test_a_metric_that_is_not_a_number_is_kept_as_it_is(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.keep(Kept(run=RunDraft(name="#00", tags={}, points=points({"train/loss": float("nan")}))))

    ((_, kept),) = spool.waiting()
    assert kept.run is not None
    assert str(kept.run.points[0].value) == "nan"
