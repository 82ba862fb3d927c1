"""The temporary folder of a process that runs a script and ends without any clean-up."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = "prefetch-tuning-script-"


def make_scratch() -> Path:
    """Makes a folder that belongs to this process."""
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))


def scratch() -> Path | None:
    """This process's folder; None if it has none, because it trains for real."""
    return next(_of(os.getpid()), None)


def remove_scratch(pid: int) -> None:
    """Removes what process `pid` left."""
    for folder in _of(pid):
        shutil.rmtree(folder, ignore_errors=True)


def _of(pid: int) -> Iterator[Path]:
    return Path(tempfile.gettempdir()).glob(f"{PREFIX}{pid}-*")
