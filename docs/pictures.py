"""Takes the pictures in docs/ of a study in the MLflow UI: pictures.py STUDY.

Run where the study was made, with the system's Chromium on the PATH.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

# When this runs as a script, Python searches this folder for modules, not the one above it.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from prefetch_tuning.experiments.commands.ui import BACKEND, ui_command
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.runs.tracking import Tracker
from prefetch_tuning.experiments.storage.runs.views import link, report_link
from tests.support.browser import CHROMIUM, launched

FOLDER = Path(__file__).resolve().parent
WIDTH, HEIGHT = 1440, 1000
START_S, DRAW_S = 60.0, 10.0


def main(study: str) -> None:
    """Writes report-in-mlflow.png and trials-in-mlflow.png."""
    if CHROMIUM is None:
        raise SystemExit(
            "error: there is no Chromium; install it, for example apt install chromium"
        )
    store = Store.choose(Path.cwd(), None, None)
    store.check_exists()
    runs = [run for run in Tracker(store).studies() if run.name == study]
    if not runs:
        raise SystemExit(f"error: no study named {study!r}; prefetch-tune studies lists them")
    run = runs[0]
    report = report_link(run.experiment_id, run.run_id)
    trials = link(run.experiment_id, run.run_id, charts=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ui_command(port)
    quiet = subprocess.DEVNULL
    given = {**os.environ, BACKEND: store.tracking_uri}
    server = subprocess.Popen(command, env=given, stdout=quiet, stderr=quiet)
    try:
        base = f"http://127.0.0.1:{port}"
        wait(f"{base}/health")
        take(CHROMIUM, f"{base}{report}", FOLDER / "report-in-mlflow.png")
        take(CHROMIUM, f"{base}{trials}", FOLDER / "trials-in-mlflow.png")
    finally:
        server.terminate()
        server.wait()


def wait(address: str) -> None:
    """Waits until the server answers."""
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(address, timeout=2):  # noqa: S310 - our own server
                return
        except OSError:
            time.sleep(0.3)
    raise SystemExit(f"error: MLflow did not start within {START_S:.0f} s")


def take(chromium: str, address: str, file: Path) -> None:
    """Takes one picture, without the assistant that MLflow opens beside the page."""
    with launched(chromium) as browser:
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(address)
        time.sleep(DRAW_S)
        for button in page.get_by_role("button", name="Close").all():
            if button.is_visible():
                button.click()
        time.sleep(DRAW_S / 5)
        page.screenshot(path=file)
    print(f"wrote {file}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("error: give one study; prefetch-tune studies lists them")
    main(sys.argv[1])
