"""The meter's sums against a fake clock, exactly, and what is said about them."""

from __future__ import annotations

import math

import pytest

from prefetch_tuning.objectives.loop.steady_state import SAMPLE_EVERY
from prefetch_tuning.objectives.monitor.epochs import Epochs
from prefetch_tuning.objectives.monitor.meter import Meter, Tally
from prefetch_tuning.objectives.monitor.stalls import WHAT_NEXT
from tests.support.fakes import FakeClock, FakeDevice


def step(
    meter: Meter, clock: FakeClock, wait_s: float, step_s: float, other_s: float = 0.0
) -> Tally:
    meter.begin()
    clock.now += wait_s + step_s
    found = meter.end(wait_s, 32)
    clock.now += other_s
    return found


def test_waits_are_a_share_of_all_time_between_the_first_batch_and_the_last() -> None:
    clock = FakeClock()
    meter = Meter(clock)
    clock.now = 100.0  # nothing runs before the first step
    for _ in range(10):
        step(meter, clock, 0.3, 0.5, other_s=0.2)

    assert meter.epoch.wait_s == pytest.approx(3.0)
    assert meter.epoch.timed_s == pytest.approx(9.8)  # the last callbacks come after it
    assert meter.epoch.wait_fraction == pytest.approx(3.0 / 9.8)
    assert meter.epoch.examples_per_s == pytest.approx(320 / 9.8)
    assert meter.first_wait_s == 0.3


def test_what_happens_between_epochs_belongs_to_none() -> None:
    clock = FakeClock()
    meter = Meter(clock)
    step(meter, clock, 0.0, 1.0, other_s=60.0)
    meter.begin_epoch()
    step(meter, clock, 0.5, 1.0)

    assert meter.epoch.wall_s == pytest.approx(1.5)
    assert meter.first_wait_s == 0.5


def test_an_execution_that_compiles_counts_only_as_the_first_wait() -> None:
    clock = FakeClock()
    meter = Meter(clock)
    meter.begin()
    clock.now += 20.0
    assert meter.end(2.0, 32, counts=False) == Tally()
    step(meter, clock, 0.1, 0.9)

    assert meter.first_wait_s == 2.0
    assert meter.epoch.wait_fraction == pytest.approx(0.1)
    assert meter.epoch.steps == 1


def test_several_steps_of_an_execution_are_counted_singly() -> None:
    clock = FakeClock()
    meter = Meter(clock)
    for _ in range(5):
        meter.begin()
        clock.now += 4.0
        meter.end(2.0, 128, steps=4)

    assert meter.epoch.steps == 20
    assert meter.usual_wait_s == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("batch_s", "step_s", "starved"), [(0.020, 0.030, 0.0), (0.040, 0.030, 0.25)]
)
def test_a_device_that_runs_behind_the_host_is_sampled(
    batch_s: float, step_s: float, starved: float
) -> None:
    """A host that waits for a batch while the device still has work doesn't hold it up."""
    clock = FakeClock()
    device = FakeDevice(clock, batch_s, step_s)
    synchronised: list[float] = []

    def synchronise() -> None:
        device.synchronise()
        synchronised.append(clock.now)

    meter = Meter(clock, synchronise)
    for _ in range(10 * SAMPLE_EVERY):
        meter.begin()
        taken = device.advance()
        meter.end(taken.wait_s, taken.examples)

    assert meter.epoch.wait_fraction == pytest.approx(starved, abs=0.01)
    assert len(synchronised) == 2 * 10  # before and after each sample
    rate = 32 / max(batch_s, step_s)
    assert meter.epoch.examples_per_s == pytest.approx(rate, rel=0.05)  # the device is behind


def test_an_epoch_without_a_step_has_no_share() -> None:
    assert math.isnan(Tally().wait_fraction)
    assert math.isnan(Tally().examples_per_s)


def said(*epochs: tuple[float, float]) -> list[str]:
    """The lines about epochs of ten steps of 1 s, each with its first and its other waits."""
    lines: list[str] = []
    clock = FakeClock()
    meter, kept = Meter(clock), Epochs(lines.append)
    for first_s, wait_s in epochs:
        meter.begin_epoch()
        for number in range(10):
            step(meter, clock, wait_s if number else first_s, 1.0)
        kept.ended(meter)
    return lines


def test_a_line_per_epoch_and_once_what_to_do() -> None:
    lines = said((0.0, 0.0), (0.5, 0.5), (0.5, 0.5))

    assert lines == [
        "input: epoch 1 waited 0% of its time for data, 32 examples/s",
        "input: epoch 2 waited 33% of its time for data, 21 examples/s",
        WHAT_NEXT,
        "input: epoch 3 waited 33% of its time for data, 21 examples/s",
    ]


def test_a_late_first_batch_and_an_epoch_that_begins_with_a_wait_are_named() -> None:
    lines = said((3.2, 0.0), (2.0, 0.0), (0.01, 0.0))

    assert "the first batch came after 3.2 s" in lines[1]
    assert "epoch 2 began with 2.0 s of waiting, 17% of its time" in "\n".join(lines)
    assert not [line for line in lines if "epoch 3 began" in line]


def test_executions_of_many_steps_that_always_wait_have_no_boundary() -> None:
    lines: list[str] = []
    clock = FakeClock()
    meter, kept = Meter(clock), Epochs(lines.append)
    for executions in (10, 10, 1):
        meter.begin_epoch()
        for _ in range(executions):
            meter.begin()
            clock.now += 32 * 0.010
            meter.end(32 * 0.005, 32 * 8, steps=32)
        kept.ended(meter)
    assert not [line for line in lines if "began" in line]


def test_an_epoch_too_short_for_a_sample_has_its_rate() -> None:
    lines: list[str] = []
    clock = FakeClock()
    meter, kept = Meter(clock, lambda: None), Epochs(lines.append)
    step(meter, clock, 0.0, 1.0)
    kept.ended(meter)
    assert lines == [
        "input: epoch 1, 32 examples/s; it has too few steps to time one on the device"
    ]


def test_an_epoch_that_always_waits_as_long_has_no_boundary() -> None:
    assert not [line for line in said((1.0, 1.0), (1.0, 1.0)) if "began" in line]
