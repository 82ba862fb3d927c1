"""Compares a study of ours with one that a competent user writes in an afternoon.

The other one is in `programs/`: Optuna's `optimize`, 30 timed steps per trial, MLflow's fluent API,
once with a fresh interpreter per trial and once with all trials in one process.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks.journal import Journal
from benchmarks.soak.readings import Reading, Watch
from prefetch_tuning.experiments.settings import TuneRequest
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.study.tuning import Tuning
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.pipelines.config import PipelineConfig

PROGRAM = Path(__file__).with_name("programs") / "naive_study.py"
# Steps of a naive trial, including those that don't count.
STEPS = 35
How = Literal["fresh", "here"]


@dataclass
class Timed(Watch):
    """Also notes when each trial ended."""

    ended_at: list[float] = field(default_factory=list)

    def advance(self, text: str, line: str | None = None) -> None:
        super().advance(text, line)
        self.ended_at.append(time.monotonic())


@dataclass(frozen=True)
class Spent:
    """What a study took.

    Attributes:
        overhead_s: seconds of each trial beyond its measuring.
        trials_per_minute: over the whole study, with its start.
        resident_mib: memory of the process that ran the study, after each trial.
        chosen: what it would use.
    """

    overhead_s: list[float]
    trials_per_minute: float
    resident_mib: list[float]
    chosen: PipelineConfig | None


def naive(target: str, size: int, trials: int, seed: int, how: How, journal: Journal) -> Spent:
    """Runs the naive study, or reads it from the journal."""
    key = f"{target}/{how}/{seed}"
    line = journal.find("naive", key)
    if line is None:
        with tempfile.TemporaryDirectory(prefix="naive-") as folder:
            program = [sys.executable, str(PROGRAM), target, folder, str(trials), str(seed), how]
            begin = time.monotonic()
            done = subprocess.run(
                [*program, json.dumps([size])], capture_output=True, text=True, check=True
            )
            seconds = time.monotonic() - begin
        said = [json.loads(each) for each in done.stdout.splitlines() if each.startswith("{")]
        line = journal.add(
            "naive", key, size=size, seconds=seconds, trials=said[:-1], best=said[-1]["best"]
        )
    return _naive(line)


def _naive(line: dict[str, Any]) -> Spent:
    best, size = line["best"], line["size"]
    config = PipelineConfig(
        batch_size=size, prefetch_buffer=best["prefetch"], map_parallelism=best["calls"]
    )
    found = line["trials"]
    return Spent(
        [t["seconds"] - STEPS * size / t["examples_per_s"] for t in found],
        60.0 * len(found) / line["seconds"],
        [t["resident_mib"] for t in found],
        config,
    )


def ours(target: str, size: int, trials: int, seed: int, journal: Journal) -> Spent:
    """Runs a study of ours without rounds, or reads it from the journal."""
    key = f"{target}/{seed}"
    line = journal.find("ours", key)
    if line is None:
        with tempfile.TemporaryDirectory(prefix="ours-") as folder:
            line = journal.add("ours", key, **_ours(target, size, trials, seed, Path(folder)))
    return _own(line)


def kept(journal: Journal, target: str, seed: int, how: str | None) -> Spent | None:
    """What the journal has of a study, ours without `how`; None if it has nothing."""
    if how is None:
        line = journal.find("ours", f"{target}/{seed}")
        return None if line is None else _own(line)
    line = journal.find("naive", f"{target}/{how}/{seed}")
    return None if line is None else _naive(line)


def _own(line: dict[str, Any]) -> Spent:
    chosen = line["chosen"]
    return Spent(
        line["overhead_s"],
        60.0 * len(line["resident_mib"]) / line["seconds"],
        line["resident_mib"],
        None if chosen is None else PipelineConfig.model_validate(chosen),
    )


def _ours(target: str, size: int, trials: int, seed: int, folder: Path) -> dict[str, Any]:
    store = Store.within(folder)
    request = TuneRequest.checked(
        pipelines=[target], study="ours", trials=trials, rounds=0, batch_size=size, seed=seed
    )
    watch, begin = Timed(), time.monotonic()
    with TrialRunner() as runner:
        tuning = Tuning(store, runner, watch)
        tuning.tune(request, begin)
    seconds = time.monotonic() - begin
    rows = tuning.records[0].trials
    walls = [b - a for a, b in zip(watch.ended_at, watch.ended_at[1:], strict=False)]
    measured = [row.measured.measured_s if row.measured else 0.0 for row in rows[1:]]
    best = tuning.records[0].result.best
    return {
        "seconds": seconds,
        "overhead_s": [wall - own for wall, own in zip(walls, measured, strict=True)],
        "resident_mib": [_mib(reading) for reading in watch.readings],
        "chosen": best.config if best else None,
    }


def _mib(reading: Reading) -> float:
    return reading.resident_kib / 2**10
