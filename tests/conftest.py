"""Shared fixtures, among them one fork server for all tests that start real trials."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from prefetch_tuning.objectives.process.answer import kill_group
from prefetch_tuning.objectives.process.runner import TrialRunner
from tests.support.browser import CHROMIUM

COVERAGE_SAVE_S = 5.0
ROOT = Path(__file__).resolve().parent.parent
# Only to end a test that would hang. How long a study takes depends on the tests beside it, whose
# trials take turns with its own.
HANG_S = 600


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Puts the files of built-in pipelines in a session folder, before a server inherits it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFETCH_TUNING_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _trials_may_save_their_coverage() -> Iterator[None]:
    """Under `make coverage`, a trial that has answered may write its coverage before it is killed.

    Otherwise the runner would kill it at once, and every trial's coverage would be lost.
    """
    if "coverage" not in sys.modules:
        yield
        return

    def kill_later(pid: int) -> None:
        end = time.monotonic() + COVERAGE_SAVE_S
        while psutil.pid_exists(pid) and time.monotonic() < end:
            time.sleep(0.01)
        kill_group(pid)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("prefetch_tuning.objectives.process.runner.kill_group", kill_later)
        yield


@pytest.fixture(scope="session")
def runner(_own_cache: None) -> Iterator[TrialRunner]:
    with TrialRunner() as started:
        yield started


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes `tests.planted.pipelines:Name` importable, and keeps tests out of an outer store."""
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(autouse=True)
def _nothing_runs_on() -> Iterator[None]:
    """Ends what a failed test left running, which would take turns with the trials of others."""
    yield
    from tests.support.program import kill_started

    kill_started()


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's program. Without one, the test is skipped, or fails if one is required."""
    if CHROMIUM is None and os.environ.get("REQUIRE_CHROMIUM") == "1":
        pytest.fail("REQUIRE_CHROMIUM=1, but there is no Chromium on the PATH")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on the PATH")
    return CHROMIUM
