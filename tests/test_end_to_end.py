"""Runs the command as a user does, on real pipelines, and reads MLflow and Optuna back.

The confirmation is left out, because it takes minutes by itself. `test_tuning.py` covers it.
"""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from tests.support.program import SOON_S, ended, start, wait_for


def results(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "results.json").read_text())
    return found


def runs(folder: Path, experiment: str) -> list[Run]:
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlruns/mlflow.db")
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id])) if found else []


def of_kind(found: list[Run], kind: str) -> list[Run]:
    return [run for run in found if run.data.tags["kind"] == kind]


def trials(folder: Path, study: str) -> int:
    """The number of trials that the study has begun; 0 until the study exists.

    It is read without Optuna, which would create its tables in a database that it finds empty.
    """
    query = (
        "SELECT COUNT(*) FROM trials JOIN studies USING (study_id) "
        "WHERE study_name = ? AND state != 'WAITING'"
    )
    try:
        with closing(sqlite3.connect(f"file:{folder}/mlruns/optuna.db?mode=ro", uri=True)) as db:
            return int(db.execute(query, (study,)).fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def running_trial(main: int) -> psutil.Process | None:
    """The process of the trial that `main`'s fork server runs now."""
    for child in psutil.Process(main).children(recursive=True):
        if child.ppid() != main:
            return child
    return None


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which two pipelines were tuned, shared by the tests that only read it."""
    folder = tmp_path_factory.mktemp("tuned")
    process = start(
        folder, "simple", "tests.planted.pipelines:Mapped", "--trials", "3", "--study", "e2e"
    )
    out, err = ended(process)
    assert process.returncode == 0, err
    (folder / "stdout").write_text(out)
    (folder / "stderr").write_text(err)
    return folder


@pytest.mark.parametrize(("index", "name"), [(0, "simple"), (1, "mapped")])
def test_json_and_mlflow_tell_the_same(tuned: Path, index: int, name: str) -> None:
    entry = results(tuned)[index]
    found = runs(tuned, name)
    by_id = {run.info.run_id: run for run in found}

    assert (entry["pipeline"], entry["device"]) == (name, "cpu")
    assert entry["study"] == f"e2e-{name}"
    assert sum(entry["trials"].values()) == 3
    parent = by_id[entry["mlflow_run_id"]]
    assert parent.info.status == "FINISHED"
    children = [run for run in found if run is not parent]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert len(of_kind(found, "trial")) == 3
    best = by_id[entry["best"]["mlflow_run_id"]]
    assert best.data.metrics["throughput/examples_per_s"] == entry["best"]["examples_per_s"]
    for key, value in entry["best"]["config"].items():
        assert best.data.params[key] == str(value)
    assert (entry["confirmation"], entry["baselines"]) == ([], {})
    assert (entry["speedup"], entry["recommended"]) == (None, None)
    assert entry["diagnosis"]["class"] in ("element-overhead", "generator-gil")
    assert parent.data.tags["diagnosis.class"] == entry["diagnosis"]["class"]
    assert 0 < entry["measured_s"] < entry["wall_s"]


def test_every_run_says_where_it_comes_from(tuned: Path) -> None:
    for run in runs(tuned, "simple"):
        tags = run.data.tags
        assert tags["device"] == "cpu"
        assert tags["seed"] == "0"
        assert tags["version.tensorflow"].startswith("2.")
        assert len(tags["host.fingerprint"]) == 12
        assert tags["study"] == "e2e-simple"


def test_runs_and_trials_are_the_same_ones(tuned: Path) -> None:
    numbers = Counter(
        run.data.tags["trial_number"] for run in of_kind(runs(tuned, "simple"), "trial")
    )

    storage = f"sqlite:///{tuned}/mlruns/optuna.db"
    study = optuna.load_study(study_name="e2e-simple", storage=storage)
    begun = [trial for trial in study.trials if trial.state.is_finished()]
    assert numbers == {str(trial.number): 1 for trial in begun}


def test_the_terminal_shows_a_table_and_no_noise(tuned: Path) -> None:
    out, err = (tuned / "stdout").read_text(), (tuned / "stderr").read_text()

    assert "AUTOTUNE" in out
    assert max(len(line) for line in out.splitlines()) <= 80
    assert "read the reports in MLflow: " in err
    for noise in ("oneDNN", "cuda", "alembic", "Creating initial", "Warning", "absl"):
        assert noise not in out + err


def test_a_resumed_study_adds_trials_and_repeats_nothing(tuned: Path) -> None:
    before = len(runs(tuned, "mapped"))
    arguments = ("tests.planted.pipelines:Mapped", "--trials", "4", "--study", "e2e-mapped")
    process = start(tuned, *arguments)
    _, err = ended(process)

    assert process.returncode == 0, err
    assert sum(results(tuned)[0]["trials"].values()) == 4
    found = of_kind(runs(tuned, "mapped"), "trial")
    assert sorted(run.data.tags["trial_number"] for run in found) == ["0", "1", "2", "3"]
    assert len(of_kind(runs(tuned, "mapped"), "study")) == 1
    assert len(runs(tuned, "mapped")) - before == 1


@pytest.mark.slow
def test_a_trial_killed_from_outside_costs_itself_only(tmp_path: Path) -> None:
    process = start(tmp_path, "tests.planted.pipelines:Mapped", "--trials", "3", "--study", "k")
    # The inspection before the study has a process too, and that isn't the one to kill.
    wait_for(lambda: trials(tmp_path, "k"), process)
    wait_for(lambda: running_trial(process.pid), process).kill()
    _, err = ended(process)

    assert process.returncode == 0, err
    counts = results(tmp_path)[0]["trials"]
    assert (counts["failed"], sum(counts.values())) == (1, 3)
    assert "trial 0 failed, killed: killed by SIGKILL" in err
    failed = [run for run in runs(tmp_path, "mapped") if run.info.status == "FAILED"]
    assert [run.data.tags["failure.kind"] for run in failed] == ["killed"]


@pytest.mark.slow
def test_a_study_killed_in_a_trial_leaves_no_process_and_can_be_resumed(tmp_path: Path) -> None:
    process = start(tmp_path, "tests.planted.pipelines:Mapped", "--trials", "3", "--study", "k")
    wait_for(lambda: trials(tmp_path, "k") >= 2, process)
    trial = wait_for(lambda: running_trial(process.pid), process)
    process.send_signal(signal.SIGKILL)
    ended(process, SOON_S)

    wait_for(lambda: not trial.is_running(), timeout_s=10)
    again = start(tmp_path, "tests.planted.pipelines:Mapped", "--trials", "3", "--study", "k")
    _, err = ended(again)

    assert again.returncode == 0, err
    assert sum(results(tmp_path)[0]["trials"].values()) == 3
    found = of_kind(runs(tmp_path, "mapped"), "trial")
    numbers = [run.data.tags["trial_number"] for run in found]
    assert len(numbers) == len(set(numbers)) == 3
    assert len(of_kind(runs(tmp_path, "mapped"), "study")) == 1
    assert all(run.info.status != "RUNNING" for run in runs(tmp_path, "mapped"))


def test_ctrl_c_keeps_what_was_measured(tmp_path: Path) -> None:
    # So many trials that the study cannot end before the signal comes, however busy the host is.
    many = ("--trials", "500", "--study", "c")
    process = start(tmp_path, "tests.planted.pipelines:Mapped", *many)
    wait_for(lambda: trials(tmp_path, "c") >= 2, process)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, err = ended(process, SOON_S)

    assert process.returncode == 130
    assert "Traceback" not in out + err
    assert "prefetch-tune tune tests.planted.pipelines:Mapped --trials 500 --study c" in err
    assert results(tmp_path)[0]["best"] is not None
    [parent] = of_kind(runs(tmp_path, "mapped"), "study")
    assert parent.info.status == "KILLED"


def test_a_pipeline_that_fails_every_time_is_given_up(tmp_path: Path) -> None:
    process = start(tmp_path, "tests.planted.pipelines:Faulty", "--trials", "9", "--study", "f")
    _, err = ended(process)

    assert process.returncode == 1
    assert "faulty: every trial failed, generator: KeyError: 'lost sample 50'" in err
    assert results(tmp_path)[0]["best"] is None
    assert results(tmp_path)[0]["trials"]["failed"] == 3


@pytest.mark.slow
def test_a_memory_limit_is_a_constraint(tmp_path: Path) -> None:
    arguments = ("tests.planted.pipelines:Mapped", "--trials", "2", "--memory-limit", "1MiB")
    process = start(tmp_path, *arguments, "--study", "m", "--batch-size", "16")
    _, err = ended(process)

    assert process.returncode == 1, err
    assert results(tmp_path)[0]["trials"]["infeasible"] == 2
    found = of_kind(runs(tmp_path, "mapped"), "trial")
    assert {run.data.tags["state"] for run in found} == {"infeasible"}
    assert {run.info.status for run in found} == {"FINISHED"}
    assert {run.data.params["batch_size"] for run in found} == {"16"}
