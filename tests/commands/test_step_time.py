"""A step is measured, logged and emulated again from its run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from prefetch_tuning.experiments.errors import StudyError
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.runs.tracking import Tracker
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.accelerators import ACCELERATORS
from prefetch_tuning.pipelines.step_time import StepTime
from tests.support.fakes import INFO
from tests.test_cli import prefetch_tune


@pytest.fixture
def tracker(tmp_path: Path) -> Tracker:
    store = Store.choose(tmp_path, None, None)
    store.create()
    return Tracker(store)


def test_a_logged_step_is_read_again_with_where_it_comes_from(tracker: Tracker) -> None:
    step = StepTime(fixed_ms=4.0, per_example_ms=0.1)
    run_id = tracker.log_step_time(INFO, step, {32: 0.0072, 64: 0.0104}, {"host": "h"})

    found = tracker.step_time(run_id)

    assert found == step.model_copy(update={"accelerator": f"run-{run_id[:8]}"})
    run = tracker.read(run_id)
    assert (run.tags["kind"], run.tags["host"]) == ("step_time", "h")
    assert run.metrics == {"step_ms/batch_32": 7.2, "step_ms/batch_64": 10.4}


def test_a_run_without_a_step_is_refused(tracker: Tracker) -> None:
    other = tracker.start_study("simple", "s", {})

    with pytest.raises(StudyError, match=r"has no step time; prefetch-tune step-time logs one"):
        tracker.step_time(other)


def test_a_servers_run_is_only_data(tracker: Tracker) -> None:
    run_id = tracker.log_step_time(INFO, StepTime(fixed_ms=1.0), {32: 0.001}, {})
    # MLflow keeps a parameter as it is, so another run stands for one that was tampered with.
    tampered = tracker.start_study("simple", "s", {})
    tracker._client.log_param(tampered, "step_time", "__import__('os').system('true')")

    with pytest.raises(StudyError, match="has no step time"):
        tracker.step_time(tampered)
    assert tracker.step_time(run_id).fixed_ms == 1.0


def test_the_accelerators_are_listed(tmp_path: Path) -> None:
    done = prefetch_tune(tmp_path, "accelerators")

    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in ACCELERATORS)
    assert "0.56ms/example" in done.stdout


@pytest.mark.slow
def test_a_step_is_measured_here_and_emulated_from_its_run(tmp_path: Path) -> None:
    done = prefetch_tune(tmp_path, "step-time", "simple", "--json", "step.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "step.json").read_text())
    assert f"--step-time {found['step_time']}" in done.stdout
    emulated = StepTime.parse(found["step_time"])
    for size, seconds in found["step_s"].items():
        assert 1 / 3 < emulated.seconds(int(size)) / seconds < 3

    again = prefetch_tune(
        tmp_path, "diagnose", "simple", "--accelerator", f"runs:/{found['run_id']}"
    )
    assert again.returncode == 0, again.stderr
    built_in = catalog.resolve("simple")
    refused = prefetch_tune(tmp_path, "step-time", f"{built_in},step=5ms")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "its step is emulated, so there is nothing to measure" in refused.stderr
