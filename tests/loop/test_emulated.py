"""An emulated accelerator: exact on a fake clock, and what a real loop takes with it."""

from __future__ import annotations

import time

import numpy as np
import pytest
import tensorflow as tf

from prefetch_tuning.objectives.loop.emulated import EmulatedFeed, feed_of, known_step
from prefetch_tuning.objectives.loop.steady_state import Taken, measure
from prefetch_tuning.objectives.loop.training import TrainingFeed
from prefetch_tuning.objectives.loop.windows import mean_rate
from prefetch_tuning.objectives.machine.emulated_accelerator import QUEUED, EmulatedAccelerator
from prefetch_tuning.objectives.spec import StopRule
from prefetch_tuning.pipelines.adapters.functions import EmulatedModel
from prefetch_tuning.pipelines.step_time import StepTime
from tests.planted.pipelines import Planted
from tests.support.fakes import FakeClock

RULE = StopRule(window_s=0.3, startup_s=0.3, min_windows=4, max_s=2.0, target_half_width=0.001)
BATCH = 32


class Loop:
    """Batches that take `batch_s` each to make, with room for `buffer`, and emulated steps."""

    asynchronous = True

    def __init__(self, batch_s: float, step_s: float, buffer: int = 2) -> None:
        self.clock = FakeClock()
        self._accelerator = EmulatedAccelerator(
            StepTime(fixed_ms=1e3 * step_s), self.clock, self._sleep
        )
        self._batch_s = batch_s
        self._buffer = buffer
        self._made_at: list[float] = []
        self._taken_at: list[float] = []

    def advance(self) -> Taken:
        number = len(self._taken_at)
        before = self._made_at[-1] if self._made_at else 0.0
        room = self._taken_at[number - self._buffer] if number >= self._buffer else 0.0
        self._made_at.append(max(before, room) + self._batch_s)
        waited_s = max(self._made_at[-1] - self.clock.now, 0.0)
        self.clock.now += waited_s
        self._taken_at.append(self.clock.now)
        self._accelerator.dispatch(BATCH)
        return Taken(waited_s, BATCH)

    def synchronise(self) -> None:
        self._accelerator.synchronise()

    def choices(self) -> object:
        return None

    def _sleep(self, seconds: float) -> None:
        self.clock.now += seconds


def rate(loop: Loop) -> float:
    return mean_rate(measure(loop, RULE, loop.clock, loop.clock).windows)


@pytest.mark.parametrize(
    ("batch_ms", "step_ms", "utilisation"), [(20, 30, 1.0), (40, 30, 0.75), (29, 30, 1.0)]
)
def test_a_planted_generator_keeps_it_busy_for_the_share_that_it_can(
    batch_ms: int, step_ms: int, utilisation: float
) -> None:
    found = rate(Loop(batch_ms / 1e3, step_ms / 1e3))

    assert found / (BATCH / (step_ms / 1e3)) == pytest.approx(utilisation, abs=0.005)


def test_a_few_steps_are_queued_and_then_the_host_waits() -> None:
    clock = FakeClock()
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.now += seconds

    device = EmulatedAccelerator(StepTime(fixed_ms=1_000.0), clock, sleep)
    for _ in range(QUEUED + 1):
        device.dispatch(BATCH)
    assert (slept, clock.now) == ([], 0.0)

    device.dispatch(BATCH)  # waits until the first one is done
    assert clock.now == 1.0
    device.synchronise()
    assert clock.now == QUEUED + 2.0


def test_sleeping_too_long_does_not_add_up() -> None:
    clock = FakeClock()

    def sleep(seconds: float) -> None:
        clock.now += seconds + 0.005  # wakes up late

    device = EmulatedAccelerator(StepTime(fixed_ms=10.0), clock, sleep)
    for _ in range(1_000):
        device.dispatch(BATCH)
    device.synchronise()

    assert clock.now == pytest.approx(10.0, abs=0.01)


def test_a_device_that_had_nothing_to_do_does_not_catch_up() -> None:
    clock = FakeClock()
    device = EmulatedAccelerator(StepTime(fixed_ms=10.0), clock, lambda s: None)
    device.dispatch(BATCH)
    clock.now = 5.0
    device.dispatch(BATCH)

    clock.now = 5.005
    slept: list[float] = []
    device._sleep = slept.append
    device.synchronise()
    assert slept == pytest.approx([0.005])


def test_a_real_chain_is_taken_in_the_graph_and_its_examples_are_counted() -> None:
    features = np.arange(BATCH * 10, dtype=np.float32).reshape(-1, 4)
    dataset = tf.data.Dataset.from_tensor_slices(features).batch(8).repeat()
    feed = feed_of(EmulatedModel(StepTime(per_example_ms=0.01)), dataset)
    assert isinstance(feed, EmulatedFeed)
    feed.trace(next(iter(dataset)))
    feed.start()
    digests = feed.take_first(2)

    taken = [feed.advance() for _ in range(20)]
    feed.synchronise()

    assert len(set(digests)) == 2
    assert {found.examples for found in taken} == {8}
    assert feed.loss == 0.0


def test_a_real_model_is_trained() -> None:
    dataset = tf.data.Dataset.from_tensors(np.zeros((4, 4), np.float32))
    feed = feed_of(Planted().build_model(), dataset.map(lambda x: (x, tf.zeros((4,)))))

    assert type(feed) is TrainingFeed
    assert known_step(Planted().build_model(), 4) is None


def test_the_cost_of_an_emulated_step_is_known() -> None:
    known = known_step(EmulatedModel(StepTime(fixed_ms=4.0, per_example_ms=0.5)), 8)

    assert known is not None
    assert known.wall_s == pytest.approx(1e-3)
    assert known.cpu_s == 0.0


def test_fit_sleeps_as_long_as_the_emulated_step() -> None:
    model = EmulatedModel(StepTime(fixed_ms=20.0))
    dataset = tf.data.Dataset.from_tensors((np.zeros((4, 4), np.float32), np.zeros(4)))
    begin = time.perf_counter()

    model.fit(dataset.repeat(5), verbose=0, shuffle=False)

    assert time.perf_counter() - begin >= 0.1
