"""What happens to a study whose store is broken, full or taken away: nothing is lost or hidden."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import HANG_S
from tests.support.program import PROGRAM, SHORT, SOON_S, ended, start, wait_for
from tests.test_cli import prefetch_tune
from tests.test_end_to_end import of_kind, results, runs, trials

# Prints how many trials are complete.
COUNT = """
import sqlite3
query = "SELECT COUNT(*) FROM trials WHERE state = 'COMPLETE'"
print("trials", *sqlite3.connect("mlruns/optuna.db").execute(query).fetchone())
"""
MAPPED = "tests.planted.pipelines:Mapped"


@pytest.mark.parametrize("name", ["optuna.db", "mlflow.db"])
@pytest.mark.parametrize("content", [b"not a database, but my notes\n" * 40, b"SQLite format 3"])
def test_a_broken_database_is_named_and_never_overwritten(
    tmp_path: Path, name: str, content: bytes
) -> None:
    folder = tmp_path / "mlruns"
    folder.mkdir()
    (folder / name).write_bytes(content)

    done = prefetch_tune(tmp_path, "tune", "simple", "--trials", "1", "--no-confirm")

    assert done.returncode == 2, done.stderr
    assert name in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert (folder / name).read_bytes() == content


def in_a_small_store(tmp_path: Path, size: str, then: str, *arguments: str) -> str:
    """Runs a study whose `mlruns/` is a file system of this size, and `then` in the same folder.

    Returns what both wrote.
    """
    program = shlex.join([*PROGRAM, "tune", *arguments, "--no-confirm", "--device", "cpu"])
    script = f"""
        mkdir mlruns && mount -t tmpfs -o size={size} tmpfs mlruns || exit 77
        {program}; echo "code $?"
        {then}
    """
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        cwd=tmp_path,
        env={**os.environ, **SHORT},
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    if done.returncode == 77:
        pytest.skip("no file system can be mounted here")
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("unshare") is None, reason="there is no unshare here")
def test_a_full_disk_is_a_clear_line_and_what_was_measured_is_safe(tmp_path: Path) -> None:
    (tmp_path / "count.py").write_text(COUNT)
    check = f"{sys.executable} count.py"
    said = in_a_small_store(tmp_path, "3m", check, MAPPED, "--trials", "500", "--study", "full")

    assert "code 2" in said
    assert "full" in said.lower() or "disk" in said.lower()
    assert "Traceback" not in said
    assert int(said.split("trials ")[-1].split()[0]) >= 1


@pytest.mark.slow
def test_two_studies_on_one_host_take_turns_and_both_are_right(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    both = [start(folder, MAPPED, "--trials", "4", "--study", "s") for folder in folders]
    said = [ended(process)[1] for process in both]

    for folder, process in zip(folders, both, strict=True):
        assert process.returncode == 0
        assert sum(results(folder)[0]["trials"].values()) == 4
        assert len(of_kind(runs(folder, "mapped"), "trial")) == 4
    assert any("take turns" in text for text in said)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_that_ends_it_loses_nothing(tmp_path: Path, number: int, code: int) -> None:
    process = start(tmp_path, MAPPED, "--trials", "500", "--study", "t")
    wait_for(lambda: trials(tmp_path, "t") >= 2, process)
    time.sleep(0.5)
    process.send_signal(number)
    out, err = ended(process, SOON_S)

    assert process.returncode == code
    assert "Traceback" not in out + err
    assert f"prefetch-tune tune {MAPPED} --trials 500 --study t" in err
    [parent] = of_kind(runs(tmp_path, "mapped"), "study")
    assert parent.info.status == "KILLED"


@pytest.mark.slow
def test_a_study_is_run_by_one_process_at_a_time(tmp_path: Path) -> None:
    """The second would take the first one's running trial for a leftover, and end it."""
    first = start(tmp_path, MAPPED, "--trials", "500", "--study", "s")
    wait_for(lambda: trials(tmp_path, "s") >= 1, first)

    second = start(tmp_path, MAPPED, "--trials", "500", "--study", "s")
    _, err = ended(second)
    assert second.returncode == 2
    assert "another process of this host is running study 's'" in err

    first.send_signal(signal.SIGTERM)
    _, err = ended(first, SOON_S)
    assert first.returncode == 143, err
    assert not [run for run in runs(tmp_path, "mapped") if run.info.status == "FAILED"]
