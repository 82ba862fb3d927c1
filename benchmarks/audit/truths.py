"""Collects the truths of grids into truths.json, which the audits read.

Run from the checkout: .venv/bin/python -m benchmarks.audit.truths mlruns/grids/*.jsonl
Each finished grid replaces its pipeline's entry; the other entries stay as they are.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pydantic import ConfigDict

from benchmarks.grids.result import Truth
from benchmarks.journal import JournalError, read
from prefetch_tuning.experiments.errors import EXIT_MISUSE, EXIT_OK

PATH = Path(__file__).with_name("truths.json")


class PlantedTruth(Truth):
    """A grid's truth and what it was measured with.

    Attributes:
        target: `module:attribute` of the pipeline.
        source_digest: the digest of the pipeline's file; if the file changes, the best may change.
        host: the fingerprint of the machine.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    target: str
    source_digest: str
    host: str


def load_truths(path: Path = PATH) -> dict[str, PlantedTruth]:
    """The truths by pipeline name; empty if no grid was collected yet."""
    if not path.exists():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    return {name: PlantedTruth.model_validate(entry) for name, entry in found.items()}


def collected(path: Path) -> tuple[str, PlantedTruth]:
    """The pipeline's name and the truth of a grid's file.

    Raises:
        JournalError: the file isn't a grid's, or the grid hasn't ended.
    """
    lines = read(path)
    last = next((line for line in reversed(lines) if line["part"] == "truth"), None)
    if last is None:
        raise JournalError(f"{path} has no truth yet: run benchmarks/grid.py to its end")
    header = lines[0]
    return header["name"], PlantedTruth.model_validate({**header["pinned"], **last})


def main(files: list[str]) -> int:
    """Adds the truths of these files to truths.json."""
    if not files:
        print("error: no grid given; name the files that benchmarks/grid.py wrote", file=sys.stderr)
        return EXIT_MISUSE
    try:
        truths = load_truths() | dict(collected(Path(file)) for file in files)
    except JournalError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_MISUSE
    entries = {name: truths[name].model_dump(mode="json") for name in sorted(truths)}
    PATH.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
    print(f"{PATH} has {', '.join(entries)}")
    return EXIT_OK


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
