"""Finds out which backend Keras will start with, without importing Keras.

If that backend isn't installed, `import keras` itself fails with a traceback from deep inside.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

TENSORFLOW = "tensorflow"


def why_not_tensorflow() -> str | None:
    """One line that says what to do; None if a process started from here would use TensorFlow."""
    backend, setting = configured_backend()
    if backend == TENSORFLOW:
        return None
    return (
        f"Keras runs on {backend} here ({setting}), but prefetch-tuning measures tf.data feeding "
        f"TensorFlow: set KERAS_BACKEND={TENSORFLOW}"
    )


def configured_backend() -> tuple[str, str]:
    """The backend and the setting that it comes from, looked up in the same order as Keras does."""
    variable = os.environ.get("KERAS_BACKEND")
    if variable:
        return variable, f"KERAS_BACKEND={variable}"
    path = _keras_folder() / "keras.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8")).get("backend", TENSORFLOW)
    except (OSError, ValueError, AttributeError):  # no such file, or one that Keras can't read
        found = TENSORFLOW
    return str(found), str(path)


def _keras_folder() -> Path:
    home = os.environ.get("KERAS_HOME")
    if home is not None:
        return Path(home).expanduser()
    base = Path("~").expanduser()
    return (base if os.access(base, os.W_OK) else Path("/tmp")) / ".keras"  # noqa: S108 - as Keras
