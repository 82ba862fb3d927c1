"""The temporary folder of a process that runs a script and ends without any clean-up."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "prefetch-tuning-script-"
_made: list[Path] = []


def make_scratch() -> Path:
    """Makes a folder that belongs to this process."""
    _made.append(Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-")))
    return _made[-1]


def scratch() -> Path | None:
    """This process's folder; None if it has none, because it trains for real."""
    return _made[-1] if _made else None


def remove_scratch() -> None:
    """Removes what this process made."""
    while _made:
        shutil.rmtree(_made.pop(), ignore_errors=True)


def remove_scratch_of(pid: int) -> None:
    """Removes what a process left that was killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}{pid}-*"):
        shutil.rmtree(folder, ignore_errors=True)
