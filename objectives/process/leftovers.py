"""Temporary files that libraries remove when the interpreter ends, which a trial's never does."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import sys
import tempfile
from pathlib import Path

GENERATED = "__autograph_generated_file"
# That of `multiprocessing`. A socket's path may have 107 characters, so it is short.
PREFIX = "pymp-"


def give_own_folder() -> None:
    """Gives `multiprocessing` a folder for the sockets of this process and its children."""
    with contextlib.suppress(OSError):  # a full disk is only a fault if the pipeline needs space
        folder = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-")
        multiprocessing.current_process()._config["tempdir"] = folder  # type: ignore[attr-defined]


def remove_leftovers() -> None:
    """Removes this process's folder and the code that AutoGraph wrote."""
    for name, module in list(sys.modules.items()):
        if name.startswith(GENERATED) and module.__file__ is not None:
            with contextlib.suppress(OSError):
                Path(module.__file__).unlink()
    # Its name is known, because a trial that ran out of file descriptors can't look for it.
    folder = multiprocessing.current_process()._config.get("tempdir")  # type: ignore[attr-defined]
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def remove_folder_of(pid: int) -> None:
    """Removes the folder of a process that may have been killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}{pid}-*"):
        shutil.rmtree(folder, ignore_errors=True)
