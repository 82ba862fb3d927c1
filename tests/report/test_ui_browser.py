"""The MLflow UI in a real browser, over a store that the suite wrote."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefetch_tuning.experiments.report.document import Report
from prefetch_tuning.experiments.report.text import verdict
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.tracking import NOTE, Tracker
from prefetch_tuning.objectives.spec import TrialSpec
from prefetch_tuning.pipelines.config import PipelineConfig
from tests.support import report_records
from tests.support.browser import FLAGS
from tests.support.devtools import Browser
from tests.support.fakes import measurement

BEGAN = 1_700_000_000.0
NAMES = ("#00 batch 64, prefetch 4, map 2", "#01 batch 64, prefetch 8, map 2")
# The verdict, and the figures in which there is a shape of some size.
READ = r"""({
  verdict: (document.getElementById("verdict") || {innerText: ""}).innerText.replace(/\s+/g, " "),
  drawn: Array.from(document.querySelectorAll(".plotly-graph-div")).filter(function (figure) {
    var shapes = figure.querySelectorAll(".main-svg .trace path, .main-svg .bars path");
    return Array.from(shapes).some(function (shape) {
      var box = shape.getBBox();
      return box.width + box.height > 0;
    });
  }).map(function (figure) { return figure.id; })
})"""


class Ui:
    """A store with a study of two trials and its report, and the MLflow UI over it."""

    def __init__(self, folder: Path, chromium: str) -> None:
        self.folder = folder
        self.chromium = chromium
        store = Store.choose(folder, None, None)
        store.create()
        tracker = Tracker(store)
        record = report_records.full()
        self.verdict = verdict(record)
        self.report = Report(record).html()
        self.study = tracker.start_study("image", "image-browsed", {"pipeline": "image"})
        self.trials: list[str] = []
        for buffer, name in zip((4, 8), NAMES, strict=True):
            config = PipelineConfig(batch_size=64, prefetch_buffer=buffer, map_parallelism=2)
            spec = TrialSpec(
                pipeline="prefetch_tuning.pipelines.builtin.image:ImagePipeline", config=config
            )
            tags = {"kind": "trial", "trial_number": str(len(self.trials))}
            self.trials.append(
                tracker.log_trial(
                    self.study, name, spec, measurement(3_000.0), "complete", tags, BEGAN
                )
            )
        tracker.finish_study(
            self.study,
            interrupted=False,
            params={},
            metrics={"limit/fraction": 0.9},
            tags={"verdict": "faster", NOTE: Report(record).note()},
            texts={"report.html": self.report},
        )
        self.experiment = tracker.experiment_of(self.study)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port"]
        self.server = subprocess.Popen(
            [*command, str(self.port), "--backend-store-uri", store.tracking_uri],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def wait(self) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2):
                    return
            except OSError:
                time.sleep(0.3)
        raise AssertionError("the MLflow UI did not start")

    def url(self, page: str) -> str:
        return f"http://127.0.0.1:{self.port}/#/{page}"

    def look(self, page: str) -> str:
        """The page's document once its scripts have run."""
        profile = f"--user-data-dir={self.folder / 'profile'}"
        command = [self.chromium, *FLAGS, profile, "--window-size=1600,1200"]
        done = subprocess.run(
            [*command, self.url(page)], capture_output=True, text=True, timeout=120, check=True
        )
        return done.stdout


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory, chromium: str) -> Iterator[Ui]:
    found = Ui(tmp_path_factory.mktemp("ui"), chromium)
    try:
        found.wait()
        yield found
    finally:
        found.server.terminate()
        found.server.wait(timeout=30)


def test_the_experiment_lists_its_study(ui: Ui) -> None:
    page = ui.look(f"experiments/{ui.experiment}/runs")

    assert "image-browsed" in page


def test_a_run_shows_its_name_its_story_and_its_metrics(ui: Ui) -> None:
    page = ui.look(f"experiments/{ui.experiment}/runs/{ui.trials[0]}")

    assert NAMES[0] in page
    assert "chosen by the sampler" in page
    assert "throughput/examples_per_s" in page
    assert "prefetch_buffer" in page


def test_two_runs_can_be_compared(ui: Ui) -> None:
    runs = json.dumps(ui.trials)
    page = ui.look(f'compare-runs?runs={runs}&experiments=["{ui.experiment}"]')

    assert all(name in page for name in NAMES)
    assert "prefetch_buffer" in page


def test_the_study_shows_its_verdict(ui: Ui) -> None:
    page = ui.look(f"experiments/{ui.experiment}/runs/{ui.study}")

    assert "AUTOTUNE" in page


def test_the_report_is_drawn_in_its_sandboxed_frame(ui: Ui) -> None:
    figures = re.findall(r'<div id="([^"]+)" class="plotly-graph-div"', ui.report)
    wanted = {"verdict": ui.verdict, "drawn": figures}

    with Browser(ui.chromium, ui.folder) as browser:
        browser.open(ui.url(f"experiments/{ui.experiment}/runs/{ui.study}/artifacts/report.html"))
        frames = browser.in_frames(READ, wanted)
        page = browser.text()

    assert figures
    assert "report.html" in page
    assert wanted in frames, f"in the frames: {frames}\non the page around them: {page[:2000]}"
