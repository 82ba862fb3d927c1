"""Looks after a training from its own thread: late batches, growing memory, and logging."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from prefetch_tuning.objectives.monitor.growth import Growth, resident_mib
from prefetch_tuning.objectives.monitor.meter import Meter, Tally
from prefetch_tuning.objectives.monitor.run_log import RunLog
from prefetch_tuning.objectives.monitor.stacks import blocked

LOOK_EVERY_S = 1.0
# A step that takes this long waits for something, and so many times what all steps took on average.
# The first one also compiles the step, while the generator fills the buffers.
LONG_S, LONG_TIMES, LONG_FIRST_S = 5.0, 20.0, 30.0
# A training whose callbacks are never told of its end is over after this long without a step.
OVER_S = 600.0
# A store that is slower than this doesn't get the last values.
PATIENCE_S = 5.0
WAIT_FRACTION, RATE = "input/wait_fraction", "throughput/examples_per_s"


class Watchdog:
    """A thread that looks once per second until `stop`, for one training after another.

    The training's thread hands it what to log, so a slow store doesn't hold the training up.

    Attributes:
        meter: times the training that runs now.
    """

    def __init__(
        self, meter: Meter, log: RunLog, log_every_s: float, say: Callable[[str], None]
    ) -> None:
        self.meter = meter
        self._log, self._log_every_s, self._say = log, log_every_s, say
        self._period, self._steps = Tally(), 0
        self._to_log: queue.SimpleQueue[tuple[Tally, int]] = queue.SimpleQueue()
        self._growth = Growth()
        self._named: float | None = None
        self._looks = True
        self._thread: threading.Thread | None = None
        self.start()

    def start(self) -> None:
        """Starts the thread, unless it runs."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._stopped = threading.Event()
        self._added_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="input-watchdog", daemon=True)
        self._thread.start()

    def add(self, measured: Tally) -> None:
        """Takes what steps measured; it is logged once it makes a whole period."""
        self.start()  # it may have ended during a long pause, like a validation
        self._added_at = time.monotonic()
        self._steps += measured.steps
        self._period.add(measured)
        if self._period.wall_s >= self._log_every_s:
            self.end_period()

    def end_period(self) -> None:
        """Has logged what was measured since the last period."""
        if self._period.timed_s > 0.0:
            self._to_log.put((self._period, self._steps))
            self._period = Tally()

    def stop(self) -> None:
        """Has the rest logged and ends the thread."""
        self.end_period()
        self._stopped.set()
        if self._thread is None:
            return
        self._thread.join(PATIENCE_S)
        if self._thread.is_alive():
            self._say("input: MLflow is slow; it may miss the last values of this training")

    def _run(self) -> None:
        stopped = self._stopped
        while not stopped.wait(LOOK_EVERY_S) and time.monotonic() - self._added_at < OVER_S:
            if self._looks:
                self._look(time.monotonic())
            self._log_all()
        self._log_all()

    def _look(self, now_s: float) -> None:
        try:
            if self._steps:  # before, the model and the buffers grow
                trend = self._growth.add(now_s, resident_mib())
                if trend is not None:
                    self._say(f"input: {trend}")
            self._look_for_a_late_batch(now_s)
        except Exception as error:
            self._looks = False
            self._say(f"input: stalls are no longer looked for: {error}")

    def _look_for_a_late_batch(self, now_s: float) -> None:
        """Names what a step has been waiting for, once per step."""
        began_at, epoch = self.meter.began_at, self.meter.epoch
        if began_at is None or began_at == self._named:
            return
        late_s = now_s - began_at
        least_s = LONG_FIRST_S
        if epoch.steps:
            least_s = max(LONG_S, LONG_TIMES * epoch.wall_s / epoch.steps)
        if late_s < least_s:
            return
        self._named = began_at
        # Parallel calls of a map often wait at the same place.
        for found in dict.fromkeys(blocked()):
            self._say(f"input: a batch is late by {late_s:.0f} s; the {found.role} is at:")
            for frame in found.frames:
                self._say(f"  {frame}")

    def _log_all(self) -> None:
        while True:
            try:
                tally, step = self._to_log.get_nowait()
            except queue.Empty:
                return
            self._log.log({WAIT_FRACTION: tally.wait_fraction, RATE: tally.examples_per_s}, step)
