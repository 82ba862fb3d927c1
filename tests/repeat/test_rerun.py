"""Reruns of logged runs: what is compared, what is refused, and real reruns of a real trial."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient

from prefetch_tuning.experiments.commands import rerun as command
from prefetch_tuning.experiments.errors import StudyError, UsageError
from prefetch_tuning.experiments.repeat.rerun import (
    ASSUMED_CV,
    Original,
    check_trust,
    compare,
    differences,
    noise_of,
    original,
    rounds_for,
    same_windows,
)
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.runs.tracking import Tracker
from prefetch_tuning.objectives.measurement import Digest, Measurement, TrialFailure
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.spec import TrialSpec
from prefetch_tuning.pipelines.config import PipelineConfig
from tests.conftest import HANG_S, ROOT
from tests.process.test_runner import QUICK
from tests.support.fakes import measurement
from tests.test_cli import prefetch_tune

BEGAN = 1_700_000_000.0
SPEC = TrialSpec(
    pipeline="prefetch_tuning.pipelines.builtin.simple:SimplePipeline",
    config=PipelineConfig(batch_size=64, prefetch_buffer=4, map_parallelism=2),
    seed=7,
    device="cpu",
    stop=QUICK,
)
AUTOTUNED = SPEC.model_copy(update={"config": PipelineConfig.autotune(SPEC.config.batch_size)})


def then(**changes: Any) -> Original:
    fields = {
        "run_id": "r",
        "name": "#07",
        "parent_id": "p",
        "spec": SPEC,
        "examples_per_s": 1_000.0,
        "speed_index": 1.0,
        "runs": 1,
        "windows": 8,
        "digest": Digest(elements="a" * 64, batches="b" * 64),
        "tags": {},
        "cv": 0.05,
    }
    return Original.model_validate({**fields, **changes})


def now(rate: float, speed: float = 1.0, **changes: Any) -> Measurement:
    return measurement(rate).model_copy(update={"host_speed_index": speed, **changes})


def test_the_same_rate_on_the_same_host_is_inside() -> None:
    found = compare(then(), [now(1_000.0)], ["n"], {})

    assert found.ratio == 1.0
    assert (found.same_data, found.inside, found.assumed_noise) == (True, True, False)
    # Two single runs with 5% noise each: their variances add up.
    assert found.noise == pytest.approx(1.96 * 0.05 * 2**0.5)


def test_the_host_s_own_speed_is_shown_and_changes_nothing() -> None:
    found = compare(then(), [now(500.0, speed=0.5)], ["n"], {})

    assert (found.ratio, found.inside) == (0.5, False)
    assert (found.then_speed_index, found.now_speed_index) == (1.0, 0.5)


def test_a_study_s_recommendation_is_rerun_as_often_as_tells_15_percent_apart() -> None:
    assert rounds_for(then()) == 1
    assert rounds_for(then(runs=9, cv=0.03)) == 1
    rounds = rounds_for(then(runs=9, cv=0.10))
    assert 1 < rounds < 15
    assert noise_of(then(runs=9, cv=0.10), rounds) <= 0.15
    assert noise_of(then(runs=9, cv=0.10), rounds - 1) > 0.15
    assert rounds_for(then(runs=9, cv=0.5)) == 15


@pytest.mark.parametrize(("rate", "inside"), [(1_130.0, True), (1_150.0, False), (800.0, False)])
def test_the_noise_draws_the_line(rate: float, inside: bool) -> None:
    assert compare(then(), [now(rate)], ["n"], {}).inside is inside


def test_more_rounds_are_more_certain() -> None:
    one = compare(then(runs=9), [now(910.0)], ["n"], {})
    nine = compare(then(runs=9), [now(910.0)] * 9, ["n"] * 9, {})

    assert nine.noise < one.noise
    assert (one.inside, nine.inside) == (True, False)


def test_an_unconfirmed_study_has_its_noise_assumed() -> None:
    found = compare(then(cv=None), [now(1_000.0)], ["n"], {})

    assert found.assumed_noise
    assert found.noise == pytest.approx(1.96 * ASSUMED_CV * 2**0.5)


def test_other_data_is_seen() -> None:
    other = Digest(elements="a" * 64, batches="c" * 64)

    assert not compare(then(), [now(1_000.0, digest=other)], ["n"], {}).same_data


def test_differences_of_the_environment_are_named_with_both_values() -> None:
    before = {"host": "h", "version.numpy": "2.1", "study": "s", "git.commit": "a"}
    after = {"host": "h", "version.numpy": "2.2", "study": "t", "git.dirty": "true"}

    assert differences(before, after) == {
        "git.commit": ("a", "unknown"),
        "git.dirty": ("unknown", "true"),
        "version.numpy": ("2.1", "2.2"),
    }


def test_a_rerun_counts_as_many_windows() -> None:
    rule = same_windows(then(windows=17)).stop

    assert rule.min_windows == 17
    assert rule.max_s == rule.window_s


def test_code_of_others_runs_only_if_it_is_named_here_or_trusted() -> None:
    theirs = then(spec=SPEC.model_copy(update={"pipeline": "their.module:Pipeline"}))

    with pytest.raises(UsageError, match=r"would import 'their\.module:Pipeline', which"):
        check_trust(theirs, None, trust=False)
    with pytest.raises(UsageError, match=r"measured 'their\.module:Pipeline', not 'simple'"):
        check_trust(theirs, "simple", trust=True)
    check_trust(theirs, None, trust=True)
    check_trust(theirs, "their.module:Pipeline", trust=False)
    # A built-in pipeline before an emulated step runs no code that isn't built in.
    emulated = SPEC.model_copy(update={"pipeline": f"{SPEC.pipeline},step=0.5ms/example"})
    check_trust(then(spec=emulated), None, trust=False)
    check_trust(then(), None, trust=False)
    with_options = then().spec.model_copy(
        update={"pipeline": f"{then().spec.pipeline},precision=bfloat16,jit=true"}
    )
    check_trust(then().model_copy(update={"spec": with_options}), None, trust=False)
    check_trust(then(), "simple", trust=False)


class Logged:
    """A folder with a study of one real trial, measured under the suite's quick stop rule."""

    def __init__(self, folder: Path, runner: TrialRunner) -> None:
        self.folder = folder
        self.store = Store.choose(folder, None, None)
        self.store.create()
        self.tracker = Tracker(self.store)
        self.client = MlflowClient(tracking_uri=self.store.tracking_uri)
        self.parent = self.tracker.start_study("simple", "s", {"study": "s"})
        measured = runner.measure(SPEC)
        assert isinstance(measured, Measurement)
        self.trial = self.log(measured, "complete")

    def log(self, outcome: Measurement | TrialFailure, state: str, **tags: str) -> str:
        tags = {"kind": "trial", **tags}
        return self.tracker.log_trial(self.parent, "#00", SPEC, outcome, state, tags, BEGAN)

    def tampered(self, **changes: str | None) -> str:
        """Logs a run like the trial's with parameters that this project never writes."""
        params = {key: str(value) for key, value in SPEC.to_params().items()}
        params |= {key: value for key, value in changes.items() if value is not None}
        experiment = self.client.get_run(self.parent).info.experiment_id
        tags = {"kind": "trial", "mlflow.parentRunId": self.parent}
        run_id = str(self.client.create_run(experiment, tags=tags).info.run_id)
        for key, value in params.items():
            if key not in changes or changes[key] is not None:
                self.client.log_param(run_id, key, value)
        self.client.log_metric(run_id, "throughput/examples_per_s", 1.0)
        return run_id


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory, runner: TrialRunner) -> Logged:
    return Logged(tmp_path_factory.mktemp("logged"), runner)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": "0"}, "batch_size: Input should be greater than or equal to 1"),
        ({"shell": "rm -rf /"}, "unknown parameter: 'shell'"),
        ({"seed": "__import__('os').system('true')"}, "seed: Input should be a valid integer"),
        ({"pipeline": "os:system('true')"}, "is not of the form module:attribute"),
        ({"map_parallelism": None}, "map_parallelism: Field required"),
    ],
)
def test_a_tampered_run_is_refused_and_starts_no_process(
    logged: Logged, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str | None], message: str
) -> None:
    def no_process() -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(command, "TrialRunner", no_process)
    run_id = logged.tampered(**changes)

    with pytest.raises(StudyError) as caught:
        command.rerun_and_report(run_id, None, 1, logged.store, None, trust=True)

    assert str(caught.value).startswith(f"run {run_id!r} cannot be rebuilt: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_measured_nothing_cannot_be_compared(logged: Logged) -> None:
    failed = logged.log(TrialFailure(kind="crash", detail="SIGSEGV"), "failed")

    with pytest.raises(StudyError, match=r"measured nothing \(crash\)"):
        original(logged.tracker, failed)
    with pytest.raises(StudyError, match="no run 'nobody' in MLflow"):
        original(logged.tracker, "nobody")
    with pytest.raises(StudyError, match="study 's' has no result to measure again"):
        original(logged.tracker, logged.parent)


def test_a_study_stands_for_the_rounds_of_what_it_recommends(logged: Logged) -> None:
    parent = logged.tracker.start_study("simple", "t", {})
    logged.client.set_tag(parent, "recommended.candidate", "tuned-1")
    for rate, speed, candidate in (
        (900.0, 1.0, "tuned-1"),
        (1_000.0, 2.0, "tuned-1"),
        (5.0, 1.0, "autotune"),
        (950.0, 0.5, "tuned-1"),
    ):
        tags = {"kind": "confirmation", "candidate": candidate}
        spec = SPEC if candidate == "tuned-1" else AUTOTUNED
        logged.tracker.log_trial(parent, "r", spec, now(rate, speed), "complete", tags, BEGAN)

    found = original(logged.tracker, parent)

    assert (found.examples_per_s, found.runs) == (950.0, 3)
    # Two of three rounds are off their median, and three values know only two deviations.
    off = np.log([900.0 / 950.0, 1_000.0 / 950.0])
    assert found.cv == pytest.approx(np.sqrt((off**2).sum() / 2))
    assert (found.name, found.windows, found.spec) == ("t", 3, SPEC)


def test_what_a_trial_was_off_its_later_rounds_counts_as_noise(logged: Logged) -> None:
    parent = logged.tracker.start_study("simple", "u", {})
    for kind, rate in (("trial", 800.0), ("confirmation", 990.0), ("confirmation", 1_010.0)):
        tags = {"kind": kind, "candidate": "tuned-1"}
        run_id = logged.tracker.log_trial(parent, "r", SPEC, now(rate), "complete", tags, BEGAN)
    # A trial of another configuration has no rounds to compare with.
    logged.tracker.log_trial(parent, "r", AUTOTUNED, now(1.0), "complete", {"kind": "trial"}, BEGAN)

    assert original(logged.tracker, run_id).cv == pytest.approx(abs(np.log(0.8)))


def test_a_trial_is_measured_again_from_mlflow_alone(logged: Logged) -> None:
    assert not (logged.folder / "mlruns" / "optuna.db").exists()
    done = prefetch_tune(logged.folder, "rerun", logged.trial, "--json", "rerun.json")

    assert done.returncode in (0, 3), done.stderr
    assert "data: identical" in done.stdout
    assert "the study was not confirmed" in done.stdout
    document = json.loads((logged.folder / "rerun.json").read_text())
    assert document["inside"] is (done.returncode == 0)
    [run_id] = document["run_ids"]
    run = logged.tracker.read(run_id)
    assert (run.tags["rerun_of"], run.tags["kind"]) == (logged.trial, "rerun")
    windows = logged.tracker.read(logged.trial).metrics["measurement/windows"]
    assert run.metrics["measurement/windows"] >= windows
    assert original(logged.tracker, run_id).spec.config == SPEC.config


def test_other_data_has_an_exit_code_of_its_own(logged: Logged) -> None:
    # The digest of this made-up measurement is none that the pipeline can give.
    other = logged.log(measurement(), "complete")
    done = prefetch_tune(logged.folder, "rerun", other, "--rounds", "2")

    assert done.returncode == 4, done.stderr
    assert "data: DIFFERENT" in done.stdout


def test_nothing_is_made_where_there_is_nothing(tmp_path: Path) -> None:
    done = prefetch_tune(tmp_path, "rerun", "abc")

    assert done.returncode == 2
    assert done.stderr.startswith("error: there is no ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_mlflow_runs_the_project(logged: Logged) -> None:
    before = len(logged.tracker.children(logged.parent))
    uri = logged.store.tracking_uri
    command = [sys.executable, "-m", "mlflow", "run", str(ROOT), "-e", "rerun"]
    command += ["-P", f"run_id={logged.trial}", "-P", f"tracking_uri={uri}"]
    done = subprocess.run(
        [*command, "--env-manager", "local"],
        cwd=logged.folder,
        env={
            **os.environ,
            "MLFLOW_TRACKING_URI": uri,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )

    # mlflow has one exit code for everything that goes wrong, and a rate outside the noise isn't an
    # error here. So the exit code isn't checked.
    assert "data: identical" in done.stdout, done.stderr
    children = logged.tracker.children(logged.parent)
    assert len(children) == before + 1
    assert children[-1].tags["rerun_of"] == logged.trial
