"""Measures PyTorch's DataLoader beside ours, in an environment of its own.

torch_rounds.py PIPELINE CONFIG_JSON ROUNDS JOURNAL

`make bench` starts it with the interpreter that `make bench-torch` installs.
"""

from __future__ import annotations

import sys
from pathlib import Path

# When this runs as a script, Python searches this folder for modules.
sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from benchmarks.bench import Bench, paired
from benchmarks.journal import Journal
from benchmarks.side_by_side.compare import EARLY, far_apart
from benchmarks.side_by_side.rivals.looks import DEADLINE_S, best_number
from benchmarks.side_by_side.rivals.targets import target_of
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.config import PipelineConfig

RIVAL = "torch_processes"
OURS, THEIRS = "ours", "DataLoader"


def main(name: str, document: str, rounds: int, path: Path) -> None:
    """Looks for the best number of workers, then measures both in interleaved rounds."""
    ours = PipelineConfig.model_validate_json(document)
    plain = PipelineConfig.autotune(ours.batch_size)
    with Journal(path, {"pipeline": name, "config": ours}) as journal, TrialRunner() as runner:
        bench = Bench(runner, journal)
        best = best_number(bench, name, RIVAL, ours.batch_size)
        if best is None:
            sys.exit(f"{name}: the DataLoader could not be measured")
        journal.add("best", "workers", workers=best)
        targets = {OURS: catalog.resolve(name), THEIRS: target_of(name, RIVAL, best)}
        both = {OURS: ours, THEIRS: plain}
        early = bench.rounds("rounds", targets, both, min(EARLY, rounds), DEADLINE_S)
        if not far_apart(*paired(early, OURS, THEIRS)):
            bench.rounds("rounds", targets, both, rounds, DEADLINE_S)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
