"""Checks that rates on the device are true: windows, utilisation and an emulated step."""

from __future__ import annotations

import statistics
import threading
import time
from types import TracebackType
from typing import Self

from benchmarks.audit.judging import Line
from benchmarks.gpu_check.checks import check, holds, line
from benchmarks.gpu_check.ground import PLANTED, CheckError, Ground
from prefetch_tuning.objectives.machine.gpu import Gpu
from prefetch_tuning.objectives.spec import StopRule
from prefetch_tuning.pipelines.step_time import StepTime
from prefetch_tuning.pipelines.target import compose

BATCH = 8
STEADY = StopRule(window_s=0.25, startup_s=1.0, min_windows=6, max_s=3.0, target_half_width=0.001)
# Host and device each add some jitter to a step of 25 ms.
NEAR = 0.07
POINTS = 0.05
# NVML samples by itself, over periods of up to a second, whether the device is busy.
NVML_POINTS = 0.10
SLOW, QUICK = "slow_rows", "quick_rows"


def heavy(rows: str) -> str:
    """The target of the heavy step behind a generator."""
    return compose(f"{PLANTED}:{rows}", None, f"{PLANTED}:heavy_model", None)


@check("windows")
def windows(ground: Ground) -> list[Line]:
    """Compares the heavy step in a trial with steps that are each waited for."""
    truth = ground.program("benchmarks.gpu_check.programs.time_steps")
    rate = ground.trial(heavy(QUICK), batch_size=BATCH, stop=STEADY).examples_per_s
    step_s = BATCH / rate
    words = (
        f"{1e3 * step_s:.2f} ms per step in the trial, {1e3 * truth['step_s']:.2f} ms when each "
        f"is waited for; dispatching one takes {1e3 * truth['dispatch_s']:.2f} ms"
    )
    good = abs(step_s / truth["step_s"] - 1.0) <= NEAR
    return [
        line(
            "windows wait for the device",
            "a step that keeps the device busy",
            f"the same time per step within {NEAR:.0%}",
            words,
            holds(good),
        )
    ]


@check("utilisation")
def utilisation(ground: Ground) -> list[Line]:
    """Compares utilisation by rates with NVML's, and with that of a sleep as long as the step."""
    step_s = ground.step_s(heavy(QUICK), BATCH)
    lines = []
    for rows in (SLOW, QUICK):
        with Sampled(ground.gpu) as sampled:
            rate = ground.trial(heavy(rows), batch_size=BATCH, stop=STEADY).examples_per_s
        real = rate * step_s / BATCH
        by_nvml = sampled.last(STEADY.max_s - 0.5)
        stand_in = compose(
            f"{PLANTED}:{rows}", None, None, StepTime(fixed_ms=round(1e3 * step_s, 3))
        )
        emulated = ground.trial(stand_in, batch_size=BATCH, stop=STEADY).examples_per_s
        predicted = emulated * step_s / BATCH
        what = f"{rows.replace('_', ' ')} before a step of {1e3 * step_s:.1f} ms"
        lines += [
            line(
                f"utilisation beside NVML's, {rows.replace('_', ' ')}",
                what,
                f"within {100 * NVML_POINTS:.0f} points of each other",
                f"{real:.1%} by rates, {by_nvml:.1%} by NVML",
                holds(abs(real - by_nvml) <= NVML_POINTS),
            ),
            line(
                f"a measured step, emulated, {rows.replace('_', ' ')}",
                what,
                f"predicts the real utilisation within {100 * POINTS:.0f} points",
                f"{predicted:.1%} predicted, {real:.1%} real",
                holds(abs(predicted - real) <= POINTS),
            ),
        ]
    return lines


class Sampled:
    """Samples NVML's utilisation with the time of each reading, to average over a trial's end."""

    def __init__(self, gpu: Gpu, every_s: float = 0.1) -> None:
        self._gpu = gpu
        self._every_s = every_s
        self._seen: list[tuple[float, float]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def last(self, seconds: float) -> float:
        """The mean of NVML's readings, as shares of 1, over the last `seconds` of a trial.

        The `seconds` end with the last reading above 0, because the trial ends a moment before
        the sampling does.

        Raises:
            CheckError: NVML gave no readings.
        """
        busy = [when for when, share in self._seen if share > 0.0]
        if not self._seen:
            raise CheckError("NVML doesn't report how busy the device is")
        if not busy:
            return 0.0
        end = busy[-1]
        return statistics.fmean(share for when, share in self._seen if end - seconds <= when <= end)

    def _look(self) -> None:
        while True:
            percent = self._gpu.utilisation_percent()
            if percent is not None:
                self._seen.append((time.monotonic(), percent / 100.0))
            if self._stop.wait(self._every_s):
                return
