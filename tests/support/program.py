"""The program in a process of its own, as a user starts it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conftest import HANG_S, ROOT

COMMAND = [sys.executable, "-c", "from prefetch_tuning.experiments.cli import run; run()"]
SHORT = {"PYTHONPATH": str(ROOT), "COLUMNS": "80"}
# A shell without job control starts background jobs with Ctrl-C ignored, and their children inherit
# that: `make test &` was such a case. A program in the foreground of a terminal gets Ctrl-C.
IN_FOREGROUND = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
PROGRAM = [*COMMAND[:-1], IN_FOREGROUND + COMMAND[-1]]
# A program that was told to end doesn't wait for other tests' trials.
SOON_S = 30
_started: list[subprocess.Popen[str]] = []


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Starts `prefetch-tune tune` in its own session, as a terminal would."""
    process = subprocess.Popen(
        [*PROGRAM, "tune", *arguments, "--no-confirm", "--device", "cpu", "--json", "results.json"],
        cwd=folder,
        env={**os.environ, **SHORT},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    _started.append(process)
    return process


def ended(process: subprocess.Popen[str], timeout_s: float = HANG_S) -> tuple[str, str]:
    """What it wrote to stdout and stderr, once it has ended."""
    return process.communicate(timeout=timeout_s)


def wait_for(
    condition: Callable[[], Any],
    process: subprocess.Popen[str] | None = None,
    timeout_s: float = HANG_S,
) -> Any:
    """What `condition` returns once it is true, which `process` is to bring about."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end and (process is None or process.poll() is None):
        found = condition()
        if found:
            return found
        time.sleep(0.2)
    said = "" if process is None or process.poll() is None else ended(process)[1]
    raise AssertionError(f"it did not come about: {said}")


def kill_started() -> None:
    """Ends what was started and still runs."""
    while _started:
        process = _started.pop()
        if process.poll() is None:
            process.kill()
            process.communicate()
