"""Opens the MLflow UI in a real browser, on a store that these tests wrote."""

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
from playwright.sync_api import Browser, Page

from prefetch_tuning.experiments.report.document import Report
from prefetch_tuning.experiments.report.verdict_words import verdict
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.runs.tracking import Tracker
from prefetch_tuning.experiments.storage.runs.views import STUDIES, link, report_link
from prefetch_tuning.experiments.storage.schema import Tag
from prefetch_tuning.objectives.spec import TrialSpec
from prefetch_tuning.pipelines.config import PipelineConfig
from tests.support import report_records
from tests.support.browser import in_frames, launched, wait_for_words
from tests.support.fakes import measurement

pytestmark = pytest.mark.slow

BEGAN = 1_700_000_000.0
NAMES = ("#00 batch 64, prefetch 4, map 2", "#01 batch 64, prefetch 8, map 2")
# Reads the verdict and the ids of the figures that have a shape of some size: others show nothing.
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
    """A store with a study of two trials and its report, and a running MLflow UI on it."""

    def __init__(self, folder: Path) -> None:
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
            tags = {
                "kind": "trial",
                "study": "image-browsed",
                "pipeline": "image",
                "trial_number": str(len(self.trials)),
            }
            self.trials.append(
                tracker.log_trial(
                    self.study, name, spec, measurement(3_000.0), "complete", tags, BEGAN
                )
            )
        tracker.finish_study(
            self.study,
            interrupted=False,
            params={},
            metrics={"limit/fraction": 0.9, "speedup/ratio": 4.0},
            tags={"verdict": "faster", Tag.NOTE: Report(record).note()},
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
        return f"http://127.0.0.1:{self.port}/#/{page.removeprefix('/#/')}"


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    found = Ui(tmp_path_factory.mktemp("ui"))
    try:
        found.wait()
        yield found
    finally:
        found.server.terminate()
        found.server.wait(timeout=30)


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with launched(chromium) as started:
        yield started


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    opened = browser.new_page(viewport={"width": 1600, "height": 1200})
    yield opened
    opened.close()


def test_the_experiment_lists_its_study(ui: Ui, page: Page) -> None:
    page.goto(ui.url(f"experiments/{ui.experiment}/runs"))

    wait_for_words(page, "image-browsed")


def test_the_link_to_the_studies_opens_their_columns(ui: Ui, page: Page) -> None:
    page.goto(ui.url(link(ui.experiment, STUDIES)))

    # The dataset and the columns show without setting anything up; the trials aren't listed.
    wait_for_words(page, "image-browsed", "limit/fraction", "speedup/ratio", "verdict")
    assert NAMES[0] not in page.content()
    # MLflow's view for prompts and traces has this tab; the view for training runs doesn't.
    assert "Evaluation runs" not in page.content()


def test_the_link_to_the_trials_opens_their_charts(ui: Ui, page: Page) -> None:
    page.goto(ui.url(link(ui.experiment, ui.study, charts=True)))

    wait_for_words(page, "Trials of image-browsed", "Parallel Coordinates", NAMES[0])


def test_a_run_shows_its_name_its_note_and_its_metrics(ui: Ui, page: Page) -> None:
    page.goto(ui.url(f"experiments/{ui.experiment}/runs/{ui.trials[0]}"))

    wait_for_words(page, NAMES[0], "chosen by the sampler", "throughput/examples_per_s")
    wait_for_words(page, "prefetch_buffer")


def test_two_runs_can_be_compared(ui: Ui, page: Page) -> None:
    runs = json.dumps(ui.trials)
    page.goto(ui.url(f'compare-runs?runs={runs}&experiments=["{ui.experiment}"]'))

    wait_for_words(page, *NAMES, "prefetch_buffer")


def test_the_study_shows_its_verdict(ui: Ui, page: Page) -> None:
    page.goto(ui.url(f"experiments/{ui.experiment}/runs/{ui.study}"))

    wait_for_words(page, "AUTOTUNE")


def test_the_report_is_drawn_in_its_sandboxed_frame(ui: Ui, page: Page) -> None:
    figures = re.findall(r'<div id="([^"]+)" class="plotly-graph-div"', ui.report)
    wanted = {"verdict": ui.verdict, "drawn": figures}

    page.goto(ui.url(report_link(ui.experiment, ui.study)))
    frames = in_frames(page, READ, wanted)

    assert figures
    wait_for_words(page, "report.html")
    assert wanted in frames, f"in the frames: {frames}"
