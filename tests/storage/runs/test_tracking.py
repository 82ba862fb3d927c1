"""Runs written to a real MLflow database and read back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR

from prefetch_tuning.experiments.errors import StoreError, StudyError
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.runs.tracking import Tracker
from prefetch_tuning.objectives.gpu_readings import GpuReadings
from prefetch_tuning.objectives.measurement import AutotuneNode, TrialFailure, Window
from prefetch_tuning.objectives.spec import TrialSpec
from prefetch_tuning.pipelines.config import PipelineConfig
from tests.support.fakes import measurement

BEGAN = 1_700_000_000.0
SPEC = TrialSpec(
    pipeline="prefetch_tuning.pipelines.builtin.simple:SimplePipeline",
    config=PipelineConfig(batch_size=64, prefetch_buffer=4, map_parallelism=2),
    seed=7,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store.choose(tmp_path_factory.mktemp("tracking"), None, None)
    store.create()
    return store


@pytest.fixture(scope="module")
def tracker(store: Store) -> Tracker:
    return Tracker(store)


@pytest.fixture(scope="module")
def client(store: Store, tracker: Tracker) -> MlflowClient:
    return MlflowClient(tracking_uri=store.tracking_uri)


@pytest.fixture
def parent(tracker: Tracker) -> str:
    return tracker.start_study("simple", "a study", {"device": "cpu"})


def test_a_trial_is_a_finished_child_with_its_parameters_and_metrics(
    tracker: Tracker, client: MlflowClient, parent: str
) -> None:
    run_id = tracker.log_trial(parent, "#00", SPEC, measurement(), "complete", {"seed": "7"}, BEGAN)

    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "#00"
    assert run.info.start_time == 1_000 * BEGAN
    assert run.data.tags["mlflow.parentRunId"] == parent
    assert {
        "batch_size": "64",
        "prefetch_buffer": "4",
        "map_parallelism": "2",
        "seed": "7",
    }.items() <= (run.data.params.items())
    assert PipelineConfig.from_params({k: run.data.params[k] for k in SPEC.config.to_params()}) == (
        SPEC.config
    )
    assert run.data.metrics["throughput/examples_per_s"] == 1_000.0
    assert run.data.metrics["memory/host_peak_mib"] == 50.0
    assert run.data.tags["digest.elements"] == "a" * 64
    assert "digest.each_batch" not in run.data.tags  # a run has hundreds of them
    # A CPU trial doesn't measure it, so it isn't logged as zero either.
    assert "memory/device_peak_mib" not in run.data.metrics


def test_the_spec_is_an_artifact_that_reads_back(
    tracker: Tracker, client: MlflowClient, parent: str, tmp_path: Path
) -> None:
    run_id = tracker.log_trial(parent, "#00", SPEC, measurement(), "complete", {}, BEGAN)

    text = Path(client.download_artifacts(run_id, "spec.json", str(tmp_path))).read_text()

    assert TrialSpec.from_json(text) == SPEC
    assert json.loads(text)["config"]["batch_size"] == 64


@pytest.mark.parametrize(
    ("state", "status"),
    [("complete", "FINISHED"), ("infeasible", "FINISHED"), ("pruned", "KILLED")],
)
def test_statuses_say_what_happened(
    tracker: Tracker, client: MlflowClient, parent: str, state: str, status: str
) -> None:
    run_id = tracker.log_trial(parent, "#00", SPEC, measurement(), state, {}, BEGAN)

    run = client.get_run(run_id)
    assert (run.info.status, run.data.tags["state"]) == (status, state)


def test_a_failed_trial_has_its_reason_and_its_output(
    tracker: Tracker, client: MlflowClient, parent: str, tmp_path: Path
) -> None:
    failure = TrialFailure(kind="crash", detail="crashed with SIGSEGV", output="last words")

    run_id = tracker.log_trial(parent, "#01", SPEC, failure, "failed", {}, BEGAN)

    run = client.get_run(run_id)
    assert run.info.status == "FAILED"
    assert run.data.tags["failure.kind"] == "crash"
    assert run.data.tags["failure.detail"] == "crashed with SIGSEGV"
    output = client.download_artifacts(run_id, "output.txt", str(tmp_path))
    assert Path(output).read_text() == "last words"


def test_more_windows_than_mlflow_takes_at_once(
    tracker: Tracker, client: MlflowClient, parent: str
) -> None:
    # MLflow takes at most 1,000 metrics per batch.
    windows = [Window(examples=i + 1, seconds=1.0, wait_s=0.0) for i in range(1_200)]
    measured = measurement().model_copy(update={"windows": windows})

    run_id = tracker.log_trial(parent, "#02", SPEC, measured, "complete", {}, BEGAN)

    history = client.get_metric_history(run_id, "throughput/window_examples_per_s")
    assert sorted((m.step, m.value) for m in history) == [(i, i + 1.0) for i in range(1_200)]


def test_what_autotune_chose_is_logged(tracker: Tracker, client: MlflowClient, parent: str) -> None:
    node = AutotuneNode(node="Prefetch", parameter="buffer_size", value=8.0, buffered_bytes=2**20)
    measured = measurement().model_copy(update={"autotune": [node]})

    run_id = tracker.log_trial(parent, "baseline", SPEC, measured, "complete", {}, BEGAN)

    metrics = client.get_run(run_id).data.metrics
    assert metrics["autotune/Prefetch/buffer_size"] == 8.0
    assert metrics["autotune/Prefetch/buffered_mib"] == 1.0


def test_what_nvml_said_is_logged_and_a_gpu_that_was_held_back_is_tagged(
    tracker: Tracker, client: MlflowClient, parent: str
) -> None:
    events = ["gpu_idle", "hw_slowdown", "hw_thermal_slowdown"]
    seen = GpuReadings(utilisation=0.25, sm_clock_mhz=1_410.0, clock_events=events, looks=9)
    measured = measurement().model_copy(update={"gpu": seen})

    run_id = tracker.log_trial(parent, "#03", SPEC, measured, "complete", {}, BEGAN)

    data = client.get_run(run_id).data
    assert data.metrics["accelerator/nvml_utilisation"] == 0.25
    assert data.metrics["accelerator/sm_clock_mhz"] == 1_410.0
    assert "memory/device_used_mib" not in data.metrics  # the driver didn't report it
    assert data.tags["gpu_throttled"] == "hw_slowdown, hw_thermal_slowdown"
    assert "throttled" not in data.tags


def test_a_run_of_a_throttled_round_counts_no_more_than_one_that_was_broken_off(
    tracker: Tracker, client: MlflowClient, parent: str
) -> None:
    run_id = tracker.log_trial(parent, "round 00", SPEC, measurement(), "complete", {}, BEGAN)

    tracker.mark_uncounted(run_id, ["hw_slowdown", "sync_boost"])

    run = client.get_run(run_id)
    assert run.info.status == "KILLED"
    assert run.data.tags["state"] == "interrupted"
    assert run.data.tags["throttled"] == "hw_slowdown, sync_boost"
    assert run.data.metrics["throughput/examples_per_s"] == 1_000.0


def test_a_study_can_be_finished_resumed_and_finished_again(
    tracker: Tracker, client: MlflowClient, parent: str
) -> None:
    for interrupted in (True, False):
        assert tracker.resume_study(parent)
        assert client.get_run(parent).info.status == "RUNNING"
        tracker.finish_study(
            parent,
            interrupted=interrupted,
            params={"seed": 7},
            metrics={"trials/complete": 3.0 - interrupted},
            tags={"state": "done"},
            texts={"report.md": "# done"},
        )

    run = client.get_run(parent)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["trials/complete"] == 3.0
    assert [file.path for file in client.list_artifacts(parent)] == ["report.md"]


def test_what_a_study_no_longer_finds_does_not_stay(
    tracker: Tracker, client: MlflowClient, parent: str
) -> None:
    """Further trials made new rounds necessary, and Ctrl-C ended them before there were nine."""

    def finish(tags: dict[str, str]) -> dict[str, str]:
        tracker.finish_study(parent, interrupted=False, params={}, metrics={}, tags=tags, texts={})
        return dict(client.get_run(parent).data.tags)

    best = {"best.run_id": "r"}
    found = {"verdict": "faster", "recommended.candidate": "tuned-1", **best}
    assert found.items() <= finish(found).items()
    tags = finish(best)

    assert best.items() <= tags.items()
    assert tags.keys().isdisjoint({"verdict", "recommended.candidate"})


def test_what_a_run_read_is_its_dataset_and_its_study_s(
    tracker: Tracker, client: MlflowClient, parent: str
) -> None:
    tags = {"pipeline": "simple"}
    runs = [
        tracker.log_trial(parent, name, SPEC, measurement(), "complete", tags, BEGAN)
        for name in ("#00", "#01")
    ]

    for run_id in (parent, *runs):
        inputs = client.get_run(run_id).inputs
        assert inputs is not None
        [read] = inputs.dataset_inputs
        assert (read.dataset.name, read.dataset.digest) == ("simple", "a" * 36)
        assert json.loads(read.dataset.source)["seed"] == 7


def test_a_changed_recommendation_moves_the_study_to_a_new_parent(
    tracker: Tracker, client: MlflowClient, parent: str
) -> None:
    trial = tracker.log_trial(parent, "#00", SPEC, measurement(), "complete", {}, BEGAN)

    def finish(run_id: str, prefetch: int) -> str:
        return tracker.finish_study(
            run_id,
            interrupted=False,
            params={"prefetch_buffer": prefetch, "seed": 7},
            metrics={"trials/complete": 3.0},
            tags={"state": "done"},
            texts={"report.md": f"# prefetch {prefetch}"},
        )

    assert finish(parent, 4) == finish(parent, 4) == parent
    moved = finish(parent, 8)

    assert moved != parent
    run = client.get_run(moved)
    assert run.data.params == {"prefetch_buffer": "8", "seed": "7"}
    assert (run.info.run_name, run.info.status) == ("a study", "FINISHED")
    assert (run.data.tags["kind"], run.data.tags["device"]) == ("study", "cpu")
    assert run.inputs is not None
    assert len(run.inputs.dataset_inputs) == 1
    assert [child.run_id for child in tracker.children(moved)] == [trial]
    assert tracker.children(parent) == []
    # The earlier id still leads to the study.
    assert client.get_run(parent).data.tags["kind"] == "replaced"
    assert tracker.read(parent).run_id == moved
    assert moved in [run.run_id for run in tracker.studies("simple")]
    assert parent not in [run.run_id for run in tracker.studies("simple")]


def test_whoever_still_knows_an_earlier_parent_goes_on_with_the_latest(
    tracker: Tracker, client: MlflowClient, parent: str
) -> None:
    """An outage may come between the new parent and its id in Optuna's storage."""

    def finish(prefetch: int) -> str:
        return tracker.finish_study(
            parent,
            interrupted=False,
            params={"prefetch_buffer": prefetch},
            metrics={},
            tags={"verdict": "faster"},
            texts={"config.json": str(prefetch)},
        )

    assert finish(4) == parent
    second = finish(8)
    late = tracker.log_trial(parent, "#01", SPEC, measurement(), "complete", {}, BEGAN)
    third = finish(2)

    assert len({parent, second, third}) == 3
    assert [child.run_id for child in tracker.children(third)] == [late]
    assert client.get_run(third).data.tags["kind"] == "study"
    assert "replaced_by" not in client.get_run(third).data.tags
    assert tracker.resume_study(parent) == third
    assert tracker.read(parent).run_id == third
    assert tracker.read_text(parent, "config.json") == "2"
    assert finish(2) == third


def test_settings_that_are_no_longer_recommended_do_not_stay(
    tracker: Tracker, client: MlflowClient, parent: str
) -> None:
    def finish(**params: int) -> str:
        return tracker.finish_study(
            parent, interrupted=False, params=params, metrics={}, tags={}, texts={}
        )

    finish(seed=7, prefetch_buffer=4)
    current = finish(seed=7)

    assert client.get_run(current).data.params == {"seed": "7"}


def test_a_server_that_fails_is_not_a_run_that_is_gone(
    tracker: Tracker, parent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: str) -> None:
        raise MlflowException("the database is locked", error_code=INTERNAL_ERROR)

    monkeypatch.setattr(tracker._client, "get_run", fails)
    with pytest.raises(StoreError, match="the database is locked"):
        tracker.resume_study(parent)


def test_a_study_saves_views_for_the_ui(
    tracker: Tracker, client: MlflowClient, parent: str
) -> None:
    tags = client.get_experiment(tracker.experiment_of(parent)).tags

    assert json.loads(tags["mlflow.sharedViewState.studies"])["name"] == "Studies"
    assert json.loads(tags[f"mlflow.sharedViewState.{parent}"])["name"] == "Trials of a study"


def test_a_parent_that_is_gone_is_not_resumed(tracker: Tracker) -> None:
    assert not tracker.resume_study("0" * 32)


def test_children_are_found_by_their_parent(tracker: Tracker, parent: str) -> None:
    names = [f"#{number:02d}" for number in range(3)]
    for second, name in enumerate(names):
        tracker.log_trial(parent, name, SPEC, measurement(), "complete", {}, BEGAN + second)

    assert [run.name for run in tracker.children(parent)] == names


def test_a_run_is_read_as_it_was_logged(tracker: Tracker, parent: str) -> None:
    run_id = tracker.log_trial(parent, "#05", SPEC, measurement(), "complete", {}, BEGAN)

    run = tracker.read(run_id)
    assert (run.name, run.status, run.params["batch_size"]) == ("#05", "FINISHED", "64")
    assert TrialSpec.from_params(run.params) == SPEC
    with pytest.raises(StudyError, match="no run 'nobody' in MLflow at sqlite:///"):
        tracker.read("nobody")


def test_a_server_that_is_not_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    nobody = "http://127.0.0.1:9"  # the discard port, where nobody listens

    with pytest.raises(StoreError, match=f"MLflow at {nobody} doesn't answer: ") as caught:
        Tracker(Store.choose(tmp_path, "sqlite://", nobody))

    assert "\n" not in str(caught.value)
