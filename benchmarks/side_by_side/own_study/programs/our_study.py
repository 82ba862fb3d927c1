"""Our study without rounds, in a fresh process like the naive one: our_study.py TARGET FOLDER ...

our_study.py TARGET FOLDER TRIALS SEED SIZE

Prints a line of JSON: the seconds of each trial beyond its measuring, the memory of this process
after each trial, and what the study would use.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

# When this runs as a script, Python searches this folder for modules.
sys.path.insert(0, str(Path(__file__).resolve().parents[4]))

from benchmarks.soak.readings import Watch
from prefetch_tuning.experiments.settings import TuneRequest
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.study.tuning import Tuning
from prefetch_tuning.objectives.process.runner import TrialRunner


@dataclass
class Timed(Watch):
    """Also notes when each trial ended."""

    ended_at: list[float] = field(default_factory=list)

    def advance(self, text: str, line: str | None = None) -> None:
        super().advance(text, line)
        self.ended_at.append(time.monotonic())


def main(target: str, folder: str, trials: int, seed: int, size: int) -> None:
    """Runs the study."""
    request = TuneRequest.checked(
        pipelines=[target], study="ours", trials=trials, rounds=0, batch_size=size, seed=seed
    )
    watch, begin = Timed(), time.monotonic()
    with TrialRunner() as runner:
        tuning = Tuning(Store.within(Path(folder)), runner, watch)
        tuning.tune(request, begin)
    rows = tuning.records[0].trials
    walls = [b - a for a, b in zip(watch.ended_at, watch.ended_at[1:], strict=False)]
    measured = [row.measured.measured_s if row.measured else 0.0 for row in rows[1:]]
    best = tuning.records[0].result.best
    said = {
        "overhead_s": [wall - own for wall, own in zip(walls, measured, strict=True)],
        "measured_s": sum(row.measured.measured_s for row in rows if row.measured),
        "resident_mib": [reading.resident_kib / 2**10 for reading in watch.readings],
        "chosen": best.config.model_dump(mode="json") if best else None,
    }
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *(int(each) for each in sys.argv[3:6]))
