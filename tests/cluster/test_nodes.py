"""Whole studies on the nodes of a local Ray cluster, some of which are killed."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from rich.console import Console

ray = pytest.importorskip("ray")

from prefetch_tuning.experiments.cli import main  # noqa: E402
from prefetch_tuning.experiments.cluster.connect import Cluster, connected  # noqa: E402
from prefetch_tuning.experiments.commands.progress import ConsoleProgress  # noqa: E402
from prefetch_tuning.experiments.errors import EXIT_MISUSE  # noqa: E402
from prefetch_tuning.experiments.settings import TuneRequest  # noqa: E402
from prefetch_tuning.experiments.storage.locations import Store  # noqa: E402
from prefetch_tuning.experiments.storage.runs.reader import LoggedRun, RunReader  # noqa: E402
from prefetch_tuning.experiments.storage.schema import Kind, Tag  # noqa: E402
from prefetch_tuning.experiments.study.tuning import Tuning  # noqa: E402
from prefetch_tuning.pipelines.source import PipelineError  # noqa: E402

TARGET = "tests.planted.pipelines:Mapped"
TRIALS = 6
# Each takes a minute. More moments: KILLS=20 make test TESTS=tests/cluster/test_nodes.py
KILLS = int(os.environ.get("KILLS", "2"))


def raylets() -> list[psutil.Process]:
    """The nodes of this process that aren't the head, whose loss ends the cluster."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.name() == "raylet" and "--head" not in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def tuned(cluster: Cluster, folder: Path, name: str, *, rounds: int = 0) -> Tuning:
    store = Store.choose(folder, None, None)
    progress = ConsoleProgress(Console(quiet=True))
    tuning = Tuning(store, cluster.runner, progress, cluster)
    request = TuneRequest.checked(
        pipelines=[TARGET], study=name, trials=TRIALS, rounds=rounds, device="cpu"
    )
    tuning.tune(request, time.monotonic())
    return tuning


def runs_of(folder: Path, tuning: Tuning, kind: Kind) -> list[LoggedRun]:
    """A study's runs of one kind in MLflow."""
    reader = RunReader(Store.choose(folder, None, None))
    runs = reader.children(tuning.records[0].result.mlflow_run_id)
    return [run for run in runs if run.tags.get(Tag.KIND) == kind]


def kill_later(after_s: float) -> threading.Timer:
    """Kills one of the nodes after a time."""

    def kill() -> None:
        victims = raylets()
        if victims:
            victims[-1].kill()

    timer = threading.Timer(after_s, kill)
    timer.start()
    return timer


@pytest.mark.timing  # its trials would take turns with those of other tests
def test_a_study_uses_all_nodes_and_leaves_nothing_behind(tmp_path: Path) -> None:
    said: list[str] = []
    with connected("local:2", said.append, mixed=False) as cluster:
        tuning = tuned(cluster, tmp_path, "two", rounds=9)
        nodes = set(cluster.nodes.names)

    trials = tuning.records[0].result.trials
    assert trials.complete + trials.pruned == TRIALS
    assert {run.tags[Tag.NODE] for run in runs_of(tmp_path, tuning, Kind.CONFIRMATION)} == nodes
    assert said == [f"measuring on 2 nodes: {', '.join(sorted(nodes))}"]
    time.sleep(1.0)
    names = [process.name() for process in psutil.Process().children(recursive=True)]
    assert not [name for name in names if "ray" in name or "gcs" in name]


@pytest.mark.timing
@pytest.mark.slow
@pytest.mark.parametrize("moment", range(KILLS))
def test_every_trial_is_there_once_if_a_node_is_killed(tmp_path: Path, moment: int) -> None:
    with connected("local:4", lambda _: None, mixed=False) as cluster:
        timer = kill_later(random.Random(moment).uniform(0.0, 25.0))
        tuning = tuned(cluster, tmp_path, "killed")
        timer.cancel()

    trials = tuning.records[0].result.trials
    assert trials.complete + trials.pruned + trials.failed == TRIALS
    assert trials.failed == 0
    logged = Counter(run.tags[Tag.TRIAL_NUMBER] for run in runs_of(tmp_path, tuning, Kind.TRIAL))
    assert logged == {str(number): 1 for number in range(TRIALS)}


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:1", "doesn't answer: "),
        ("ray://127.0.0.1:1", "doesn't answer: "),
        ("somewhere", "give auto, HOST:PORT"),
    ],
)
def test_a_cluster_that_does_not_exist_is_said_at_once(address: str, said: str) -> None:
    with pytest.raises(PipelineError, match=said), connected(address, print, mixed=False):
        pass


def test_auto_names_the_address_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with (
        pytest.raises(PipelineError, match=r"127\.0\.0\.1:1 doesn't answer"),
        connected("auto", print, mixed=False),
    ):
        pass


@pytest.mark.parametrize("address", ["local:0", "local:many"])
def test_a_number_of_nodes_that_makes_no_sense_is_misuse(
    address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", "simple", "--cluster", address]) == EXIT_MISUSE
    assert "give local:N with N from 1 to 16" in capsys.readouterr().err


def test_a_node_runs_trials_or_a_part_of_the_generator(capsys: pytest.CaptureFixture[str]) -> None:
    both = ["--cluster", "local:2", "--generator-cluster", "local:2"]
    assert main(["tune", "simple", *both]) == EXIT_MISUSE
    assert "leave one out" in capsys.readouterr().err
