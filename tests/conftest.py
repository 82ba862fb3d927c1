"""Fixtures: one fork server for all tests that start real trials."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from objectives.isolation import TrialRunner

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def runner() -> Iterator[TrialRunner]:
    with TrialRunner() as started:
        yield started


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """`tests.planted:Name` is importable from here, and no outer store is written to."""
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
