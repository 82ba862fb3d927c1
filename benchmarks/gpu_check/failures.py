"""What happens where the device runs out of memory, and what is known of its clocks."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.audit.judging import Line
from benchmarks.gpu_check.checks import check, holds, line
from benchmarks.gpu_check.ground import PLANTED, SHORT, CheckError, Ground
from benchmarks.gpu_check.sizes import FITTING, TOO_LARGE
from benchmarks.gpu_check.timing import BATCH, QUICK, STEADY, heavy
from experiments.api import tune
from experiments.results import TrialRow

OOM = "device_oom"
TRIALS = 10


@check("out of memory")
def out_of_memory(ground: Ground) -> list[Line]:
    """A study whose two large batch sizes fit on no device."""
    del ground  # it starts its own runner, as users do
    with tempfile.TemporaryDirectory() as folder:
        tuned = tune(
            f"{PLANTED}:Hungry",
            trials=TRIALS,
            rounds=0,
            axes="basic",
            stop=SHORT,
            storage=f"sqlite:///{Path(folder) / 'optuna.db'}",
            tracking_uri=f"sqlite:///{Path(folder) / 'mlflow.db'}",
        )
    if not tuned.records:
        raise CheckError(f"the study did not begin: {'; '.join(tuned.problems)}")
    return judged(tuned.records[0].trials)


def judged(rows: Sequence[TrialRow]) -> list[Line]:
    """What is expected of the trials of such a study, in their order."""
    large = [row for row in rows if row.config.batch_size in TOO_LARGE]
    as_such = [
        row
        for row in large
        if row.state == "infeasible" and row.failure is not None and row.failure.kind == OOM
    ]
    small = [row for row in rows if row.config.batch_size in FITTING]
    later = [row.config.batch_size in TOO_LARGE for row in rows[len(rows) // 2 :]]
    kinds = sorted({f"{row.state}, {row.failure.kind}" for row in large if row.failure})
    return [
        line(
            "out of device memory",
            f"batch sizes {TOO_LARGE[0]} and {TOO_LARGE[1]} need 256 GiB and more",
            f"infeasible for {OOM}; the others complete",
            f"{len(as_such)} of {len(large)} large ones infeasible for it ({'; '.join(kinds)}); "
            f"{sum(row.measured is not None for row in small)} of {len(small)} small ones measured",
            holds(
                bool(as_such)
                and len(as_such) == len(large)
                and all(row.measured is not None for row in small)
            ),
        ),
        line(
            "the search learns to avoid it",
            "half of the four batch sizes fit",
            "in the second half of the trials fewer than half are large ones",
            f"{sum(later)} of {len(later)}",
            holds(sum(later) < len(later) / 2) if later else "undecided",
        ),
    ]


@check("clocks")
def clocks(ground: Ground) -> list[Line]:
    """The reasons for clocks below their maximum, read while the heavy step runs."""
    found = ground.trial(heavy(QUICK), batch_size=BATCH, stop=STEADY).gpu
    if found is None:
        raise CheckError("NVML saw nothing while the trial ran")
    known = found.looks > 0 and found.problem is None and found.sm_clock_mhz is not None
    events = ", ".join(found.clock_events) or "none"
    words = (
        f"{found.looks} looks, {found.sm_clock_mhz or 0:,.0f} of "
        f"{ground.gpu.max_sm_clock_mhz or 0:,.0f} MHz; reasons seen: {events}"
    )
    if found.throttled:
        words += f"; held back by {', '.join(found.throttled)}"
    return [
        line(
            "throttling can be seen",
            "a step that keeps the device busy",
            "clocks and the reasons for them are read all the time",
            words,
            holds(known),
        )
    ]
