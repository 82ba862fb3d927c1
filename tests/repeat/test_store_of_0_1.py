"""Uses a store that version 0.1 wrote: a study of `simple` with two trials and nine rounds.

The store was made at commit 6846d10 by `prefetch-tune tune simple --trials 2 --batch-size 256
--device cpu --study old --confirm-budget 1`. Its artifacts were left out.
"""

from __future__ import annotations

import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from tests.test_cli import prefetch_tune

ARCHIVE = Path(__file__).with_name("store-0.1.tar.xz")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A folder with a fresh copy of the store."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def run_of(folder: Path, kind: str) -> str:
    query = "SELECT run_uuid FROM tags WHERE key = 'kind' AND value = ? ORDER BY run_uuid"
    with closing(sqlite3.connect(folder / "mlruns" / "mlflow.db")) as database:
        return str(database.execute(query, (kind,)).fetchone()[0])


def drop_parameter(folder: Path, run_id: str, name: str) -> None:
    with closing(sqlite3.connect(folder / "mlruns" / "mlflow.db")) as database:
        query = "DELETE FROM params WHERE run_uuid = ? AND key = ?"
        assert database.execute(query, (run_id, name)).rowcount == 1
        database.commit()


@pytest.mark.parametrize("kind", ["trial", "study"])
def test_what_it_measured_is_measured_again(old: Path, kind: str) -> None:
    run_id = run_of(old, kind)
    if kind == "trial":
        drop_parameter(old, run_id, "max_queue_size")  # as if it were older than that parameter

    done = prefetch_tune(old, "rerun", run_id)

    # The rate may be outside the noise of the first machine, but the data must be identical.
    assert done.returncode in (0, 3), done.stderr
    assert "data: identical" in done.stdout
    assert "version.prefetch-tuning was 0.1.0" in done.stdout


def test_it_is_listed_shown_and_reported(old: Path) -> None:
    for arguments in (("studies",), ("show", "old"), ("report", "old", "--out", "report")):
        done = prefetch_tune(old, *arguments)
        assert done.returncode == 0, done.stderr

    page = (old / "report" / "report.md").read_text()
    assert "prefetch_tuning.pipelines.builtin.simple:SimplePipeline" in page


def test_its_rounds_would_not_compare_with_those_of_today(old: Path) -> None:
    done = prefetch_tune(old, "confirm", "old")

    assert done.returncode == 2
    assert "study 'old' was made with pipeline pipelines.simple:SimplePipeline" in done.stderr
    assert done.stderr.count("\n") == 1
