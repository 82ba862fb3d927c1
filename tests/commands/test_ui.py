"""`prefetch-tune ui` prints the links of the latest studies, whole, before it starts the server."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from prefetch_tuning.experiments.cli import main
from prefetch_tuning.experiments.commands import ui
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.runs import tracking
from prefetch_tuning.experiments.storage.runs.tracking import Tracker
from tests.test_cli import prefetch_tune

BASE = "http://127.0.0.1:5000"


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> Tracker:
    store = Store.choose(tmp_path_factory.mktemp("ui"), None, None)
    store.create()
    return Tracker(store)


def test_each_pipeline_and_each_study_has_its_links(tracker: Tracker) -> None:
    studies = {
        name: tracker.start_study(pipeline, name, {"pipeline": pipeline})
        for name, pipeline in (("one", "simple"), ("two", "simple"), ("three", "image"))
    }
    text = io.StringIO()

    ui.print_links(Console(file=text, width=40), tracker.studies(), BASE)
    lines = text.getvalue().splitlines()

    assert [line for line in lines if line.startswith("all studies of ")] == [
        "all studies of image:",
        "all studies of simple:",
    ]
    for name, run_id in studies.items():
        trials = lines[lines.index(f"trials of {name}:") + 1]
        assert trials.startswith(f"  {BASE}/#/experiments/")
        assert trials.endswith(f"viewStateShareKey={run_id}&compareRunsMode=CHART")
        report = lines[lines.index(f"report of {name}:") + 1]
        assert f"/runs/{run_id}/artifacts/report.html?workflowType=machine_learning" in report


def test_links_have_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder has no mlruns: the server has everything."""
    monkeypatch.chdir(tmp_path)
    run = SimpleNamespace(experiment_id="1", run_id="r", name="one", tags={})
    tracker = SimpleNamespace(studies=lambda: [run])
    monkeypatch.setattr(tracking, "Tracker", lambda store: tracker)

    assert main(["ui", "--tracking-uri", "http://ann:s3cr3t@mlflow.example:5000/"]) == 0
    said = capsys.readouterr().out
    assert "  http://mlflow.example:5000/#/experiments/1" in said
    assert "s3cr3t" not in said
    assert list(tmp_path.iterdir()) == []


def test_the_server_is_mlflow_s_own_on_this_machine_only() -> None:
    command = ui.ui_command(5_001)

    assert command[1:4] == ["-m", "mlflow", "ui"]
    assert command[-4:] == ["--host", "127.0.0.1", "--port", "5001"]


def test_without_results_it_says_where_to_get_them(tmp_path: Path) -> None:
    done = prefetch_tune(tmp_path, "ui")

    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "prefetch-tune tune" in done.stderr


def test_a_port_that_is_none_is_one_line(tmp_path: Path) -> None:
    done = prefetch_tune(tmp_path, "ui", "--port", "99999")

    assert (done.returncode, done.stderr) == (
        2,
        "error: --port: must be from 1 to 65535, not 99999\n",
    )
