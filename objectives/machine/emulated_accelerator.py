"""The clock of an emulated accelerator. Pure: time is an argument.

As on a GPU, dispatching a step returns at once. Steps run one after another, and a few may be
queued. That needs no thread: the time at which a step is done follows from the time at which it was
dispatched and from the step before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from prefetch_tuning.pipelines.step_time import StepTime

# Steps that may wait behind the one that runs. CUDA queues about a thousand kernels, which a large
# model launches in one or two steps.
QUEUED = 2


class EmulatedAccelerator:
    """Steps that take time, one after another, behind a host that dispatches them.

    A host that waits sleeps until an absolute time, so sleeping too long doesn't add up.
    """

    def __init__(
        self, step_time: StepTime, clock: Callable[[], float], sleep: Callable[[float], None]
    ) -> None:
        self._step_time = step_time
        self._clock = clock
        self._sleep = sleep
        self._done_at: deque[float] = deque()
        self._last_done_at = 0.0

    def dispatch(self, examples: int) -> None:
        """Starts a step behind those that are queued; waits if the queue is full."""
        begin = max(self._clock(), self._last_done_at)
        self._last_done_at = begin + self._step_time.seconds(examples)
        self._done_at.append(self._last_done_at)
        while len(self._done_at) > QUEUED + 1:
            self._sleep_until(self._done_at.popleft())

    def synchronise(self) -> None:
        """Waits until every step is done."""
        self._done_at.clear()
        self._sleep_until(self._last_done_at)

    def _sleep_until(self, done_at: float) -> None:
        left = done_at - self._clock()
        if left > 0:
            self._sleep(left)
