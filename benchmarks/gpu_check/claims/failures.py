"""Checks what happens when the device runs out of memory, and whether its clocks can be read."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.audit.judging import Line
from benchmarks.gpu_check.checks import check, holds, line
from benchmarks.gpu_check.claims.timing import BATCH, QUICK, STEADY, heavy
from benchmarks.gpu_check.ground import PLANTED, SHORT, CheckError, Ground
from benchmarks.gpu_check.sizes import FITTING, TOO_LARGE
from prefetch_tuning.experiments.api import tune
from prefetch_tuning.experiments.storage.results import StudyRecord
from prefetch_tuning.objectives.measurement import TrialFailure

HUNGRY = f"{PLANTED}:Hungry"
OOM = "device_oom"
TRIALS = 6


@check("out of memory")
def out_of_memory(ground: Ground) -> list[Line]:
    """Runs a trial that fits on no device, then one that fits, and a study of both kinds."""
    too_large = ground.attempt(HUNGRY, batch_size=TOO_LARGE[0])
    said = too_large.kind if isinstance(too_large, TrialFailure) else "a measurement"
    after = ground.attempt(HUNGRY, batch_size=FITTING[-1])
    then = after.kind if isinstance(after, TrialFailure) else "a measurement"
    return [
        line(
            "out of device memory",
            f"a step of batch {TOO_LARGE[0]}, which needs 256 GiB, then one of {FITTING[-1]}",
            f"{OOM}, then a measurement",
            f"{said}, then {then}",
            holds((said, then) == (OOM, "a measurement")),
        ),
        *judged(study_of_hungry()),
    ]


def study_of_hungry() -> StudyRecord:
    """A short study whose two large batch sizes fit on no device.

    Raises:
        CheckError: the study could not start.
    """
    with tempfile.TemporaryDirectory() as folder:
        tuned = tune(
            HUNGRY,
            trials=TRIALS,
            rounds=0,
            axes="basic",
            stop=SHORT,
            storage=f"sqlite:///{Path(folder) / 'optuna.db'}",
            tracking_uri=f"sqlite:///{Path(folder) / 'mlflow.db'}",
        )
    if not tuned.records:
        raise CheckError(f"the study could not start: {'; '.join(tuned.problems)}")
    return tuned.records[0]


def judged(record: StudyRecord) -> list[Line]:
    """Judges such a study: its diagnosis must have found out what fits."""
    tried = sorted({row.config.batch_size for row in record.trials})
    measured = sum(row.measured is not None for row in record.trials)
    diagnosed = record.result.diagnosis is not None
    only_fitting = bool(tried) and all(size in FITTING for size in tried)
    return [
        line(
            "the search avoids what doesn't fit",
            f"batch sizes {[*FITTING, *TOO_LARGE]}, of which the first two fit",
            "a diagnosis at the largest size that fits, and no trials at a larger one",
            f"{'a' if diagnosed else 'no'} diagnosis; trials at {tried}, "
            f"{measured} of {len(record.trials)} measured",
            holds(diagnosed and only_fitting and measured == len(record.trials)),
        )
    ]


@check("clocks")
def clocks(ground: Ground) -> list[Line]:
    """Reads the clocks and the reasons for low ones while the heavy step runs."""
    found = ground.trial(heavy(QUICK), batch_size=BATCH, stop=STEADY).gpu
    if found is None:
        raise CheckError("NVML gave no readings while the trial ran")
    told = ground.gpu.clock_events() is not None  # a driver may report clocks without reasons
    known = found.looks > 0 and found.problem is None and found.sm_clock_mhz is not None and told
    events = ", ".join(found.clock_events) or ("none" if told else "not reported by the driver")
    words = (
        f"{found.looks} readings, {found.sm_clock_mhz or 0:,.0f} of "
        f"{ground.gpu.max_sm_clock_mhz or 0:,.0f} MHz; reasons seen: {events}"
    )
    if found.throttled:
        words += f"; held back by {', '.join(found.throttled)}"
    return [
        line(
            "throttling can be seen",
            "a step that keeps the device busy",
            "clocks and the reasons for them are read throughout the trial",
            words,
            holds(known),
        )
    ]
