"""Runs a study of ours and one that a competent user writes in an afternoon, each in a process.

The other one is in `programs/`: Optuna's `optimize`, 30 timed steps per trial, MLflow's fluent API,
once with a fresh interpreter per trial and once with all trials in one process.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.journal import Journal
from prefetch_tuning.pipelines.config import PipelineConfig

PROGRAMS = Path(__file__).with_name("programs")
PART, OURS = "own study", "ours"
How = Literal["ours", "fresh", "here"]


@dataclass(frozen=True)
class Spent:
    """What a study took.

    Attributes:
        overhead_s: seconds of each trial beyond its steps.
        whole_overhead_s: seconds of the whole study beyond all steps, over its trials: with what it
            does before the first trial.
        trials_per_minute: over the whole study, with its start.
        resident_mib: memory of the process that ran the study, after each trial.
        chosen: what it would use.
    """

    overhead_s: list[float]
    whole_overhead_s: float
    trials_per_minute: float
    resident_mib: list[float]
    chosen: PipelineConfig | None


def run(target: str, size: int, trials: int, seed: int, how: How, journal: Journal) -> Spent:
    """Runs a study, or reads it from the journal.

    Raises:
        subprocess.CalledProcessError: its program failed.
    """
    if journal.find(PART, how) is None:
        program = "our_study.py" if how == OURS else "naive_study.py"
        with tempfile.TemporaryDirectory(prefix="study-") as folder:
            more = [str(size)] if how == OURS else [how, json.dumps([size])]
            command = [sys.executable, str(PROGRAMS / program), target, folder, str(trials)]
            begin = time.monotonic()
            done = subprocess.run(
                [*command, str(seed), *more], stdout=subprocess.PIPE, text=True, check=True
            )
            seconds = time.monotonic() - begin
        said = [json.loads(each) for each in done.stdout.splitlines() if each.startswith("{")]
        journal.add(PART, how, size=size, seconds=seconds, said=said)
    found = kept(journal, how)
    assert found is not None
    return found


def kept(journal: Journal, how: How) -> Spent | None:
    """What the journal has of a study; None if it has nothing."""
    line = journal.find(PART, how)
    if line is None:
        return None
    return (_ours if how == OURS else _naive)(line)


def _ours(line: dict[str, Any]) -> Spent:
    (said,) = line["said"]
    chosen = said["chosen"]
    return Spent(
        said["overhead_s"],
        (line["seconds"] - said["measured_s"]) / len(said["resident_mib"]),
        60.0 * len(said["resident_mib"]) / line["seconds"],
        said["resident_mib"],
        None if chosen is None else PipelineConfig.model_validate(chosen),
    )


def _naive(line: dict[str, Any]) -> Spent:
    *trials, last = line["said"]
    best = last["best"]
    return Spent(
        [trial["seconds"] - trial["stepping_s"] for trial in trials],
        (line["seconds"] - sum(trial["stepping_s"] for trial in trials)) / len(trials),
        60.0 * len(trials) / line["seconds"],
        [trial["resident_mib"] for trial in trials],
        PipelineConfig(
            batch_size=line["size"], prefetch_buffer=best["prefetch"], map_parallelism=best["calls"]
        ),
    )
