"""Writes pipelines/builtin/described.json, which `prefetch-tune pipelines` shows: described.py.

Inspecting the built-in pipelines takes 20 s, because each is imported with TensorFlow.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

# When this runs as a script, Python searches this folder for modules, not the one above it.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from prefetch_tuning.experiments.commands.pipelines import row_of
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.pipelines import catalog

FILE = Path(__file__).resolve().parent.parent / "pipelines" / "builtin" / "described.json"


def text() -> str:
    """The file's text, from fresh inspections."""
    with TrialRunner() as runner:
        infos = {name: runner.inspect(catalog.resolve(name), 0, "cpu") for name in catalog.names()}
    rows = {name: row_of(info) for name, info in infos.items()}
    return json.dumps(rows, indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
