"""Steps of an emulated accelerator: they take time but no cores, and run behind the host.

Like a GPU's, a step is dispatched and returns. Steps run one after another, and a few may be
queued. That needs no thread and no Python in the graph: the time at which a step is done follows
from the time at which it was dispatched and from the step before it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from prefetch_tuning.objectives.loop.distribution import Distribution
from prefetch_tuning.objectives.loop.steady_state import Clock, Taken
from prefetch_tuning.objectives.loop.step import count_examples, take_on_iterator
from prefetch_tuning.objectives.loop.training import TrainingFeed
from prefetch_tuning.objectives.stage_costs import StageCost
from prefetch_tuning.pipelines.adapters.functions import EmulatedModel
from prefetch_tuning.pipelines.step_time import StepTime

# Steps that may wait behind the one that runs. CUDA queues about a thousand kernels, which a large
# model launches in one or two steps.
QUEUED = 2


class EmulatedAccelerator:
    """The clock of an accelerator. Pure: time is an argument.

    A host that waits sleeps until an absolute time, so sleeping too long doesn't add up.
    """

    def __init__(self, step_time: StepTime, clock: Clock, sleep: Callable[[float], None]) -> None:
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


class EmulatedFeed(TrainingFeed):
    """Batches that are taken in the graph, and steps of an emulated accelerator."""

    def __init__(
        self, model: EmulatedModel, dataset: tf.data.Dataset, *, autotuned: bool = False
    ) -> None:
        super().__init__(model, dataset, autotuned=autotuned)
        self.asynchronous = True
        self._accelerator = EmulatedAccelerator(model.step_time, time.perf_counter, time.sleep)
        self._undistributed = Distribution(model)
        self._take_in_graph = take_on_iterator(self._undistributed)

    def trace(self, batch: Any) -> None:
        """Traces how a batch is taken, on one that isn't from the measured iterator."""
        self._take_in_graph(iter(self._as_delivered(batch)))

    def advance(self) -> Taken:
        begin = time.perf_counter()
        examples = int(self._take_in_graph(self._iterator))
        waited_s = time.perf_counter() - begin
        self._accelerator.dispatch(examples)
        return Taken(waited_s, examples)

    def take_only(self) -> None:
        self._take_in_graph(self._iterator)

    def step(self, batch: Any) -> None:
        self._accelerator.dispatch(int(count_examples(batch, self._undistributed)))

    def synchronise(self) -> None:
        self._accelerator.synchronise()

    @property
    def loss(self) -> float:
        """An emulated step has none."""
        return 0.0


def known_step(model: keras.Model, examples: int) -> StageCost | None:
    """Cost per example of an emulated step, which needs no measuring; None for a real one."""
    if not isinstance(model, EmulatedModel):
        return None
    return StageCost(wall_s=model.step_time.seconds(examples) / examples, cpu_s=0.0)


def feed_of(
    model: keras.Model, dataset: tf.data.Dataset, *, autotuned: bool = False
) -> TrainingFeed:
    """The feed that consumes a dataset with a model's real or emulated steps."""
    kind = EmulatedFeed if isinstance(model, EmulatedModel) else TrainingFeed
    return kind(model, dataset, autotuned=autotuned)
