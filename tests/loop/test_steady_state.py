"""Timing logic on a clock that only the fake pipeline advances: exact, and without sleeping."""

from __future__ import annotations

import math
import random
import statistics

import pytest

from prefetch_tuning.objectives.loop.steady_state import (
    SAMPLE_EVERY,
    SteadyState,
    measure,
)
from prefetch_tuning.objectives.loop.warm_up import (
    LEAST_BATCHES,
    UNREADABLE,
    rate_settled,
    settled,
)
from prefetch_tuning.objectives.loop.windows import (
    drifts,
    effective_count,
    interval,
    mean_rate,
    percentiles_ms,
    prunable,
)
from prefetch_tuning.objectives.measurement import Window
from prefetch_tuning.objectives.spec import StopRule
from tests.support.fakes import FakeClock, FakeDevice, FakeFeed

RULE = StopRule(window_s=0.1, startup_s=0.5, min_windows=6, max_s=2.0, target_half_width=0.02)


def run(feed: FakeFeed, rule: StopRule = RULE, best: float | None = None) -> SteadyState:
    return measure(feed, rule, feed.clock, lambda: 2.0 * feed.clock.now, best)


def window(rate: float, seconds: float = 0.1) -> Window:
    return Window(examples=round(rate * seconds), seconds=seconds, wait_s=0.0)


def test_a_constant_pipeline_is_measured_exactly() -> None:
    # Powers of two, so the fake clock's sums are exact. Four steps fill a window.
    feed = FakeFeed(FakeClock(), wait_s=lambda n, now: 3 / 128, step_s=1 / 128)

    state = run(feed, RULE.model_copy(update={"window_s": 1 / 8}))

    assert mean_rate(state.windows) == 32 / (1 / 32)
    assert state.stopped == "precise"
    assert state.settled
    assert len(state.windows) == RULE.min_windows
    assert state.startup_s == 1 / 32 + 4 / 8  # the first batch, then the start-up
    assert all(w.examples == 4 * 32 and w.seconds == 1 / 8 for w in state.windows)
    assert all(w.wait_s / w.seconds == 3 / 4 for w in state.windows)
    assert percentiles_ms(state.step_s) == (31.25, 31.25)
    # The CPU clock runs at twice the speed, and only counted windows add to it.
    assert state.cpu_s == 2.0 * RULE.min_windows / 8


def test_several_steps_to_an_execution_are_told_as_single_steps() -> None:
    clock = FakeClock()
    single = run(FakeFeed(clock, wait_s=lambda n, now: 3 / 128, step_s=1 / 128))
    several = run(FakeFeed(FakeClock(), wait_s=lambda n, now: 3 / 128, step_s=1 / 128, steps=4))

    assert percentiles_ms(several.step_s) == percentiles_ms(single.step_s) == (31.25, 31.25)
    assert mean_rate(several.windows) == mean_rate(single.windows) == 32 * 32
    assert len(several.step_s) == sum(w.examples for w in several.windows) / 32
    assert all(w.wait_s / w.seconds == 3 / 4 for w in several.windows)


def test_examples_and_seconds_come_from_the_same_window() -> None:
    # Planted: 0.03 s per step. A window of 0.1 s takes 4 steps and 0.12 s, and must say so.
    state = run(FakeFeed(FakeClock(), wait_s=lambda n, now: 0.03))

    assert {w.examples for w in state.windows} == {4 * 32}
    assert all(w.seconds == pytest.approx(0.12) for w in state.windows)


def test_the_device_is_synchronised_once_a_window() -> None:
    feed = FakeFeed(FakeClock(), wait_s=lambda n, now: 0.02)

    state = run(feed)

    first_batch, startup_windows = 1, 5
    assert feed.synchronised == first_batch + startup_windows + len(state.windows)


@pytest.mark.parametrize(
    ("batch_ms", "utilisation", "least_host_waits", "sample_ms"),
    # Step by step, the host waits for the 20 ms of each batch while the device runs for 30 ms.
    [(20, 1.0, 0.5, 30), (40, 3 / 4, 0.7, 40)],
)
def test_a_device_starves_by_its_rate_not_by_the_hosts_waiting(
    batch_ms: int, utilisation: float, least_host_waits: float, sample_ms: int
) -> None:
    # Planted: steps of 30 ms run one after the other behind the host that dispatches them.
    def of(batch_s: float) -> SteadyState:
        clock = FakeClock()
        return measure(FakeDevice(clock, batch_s, 0.03), RULE, clock, clock)

    state, ready = of(batch_ms / 1e3), of(1e-9)

    assert mean_rate(ready.windows) == pytest.approx(32 / 0.03, rel=1e-3)
    # Two sampled steps of the 67 drain the device, which costs less than a percent.
    assert mean_rate(state.windows) / mean_rate(ready.windows) == pytest.approx(
        utilisation, rel=0.01
    )
    waited_s = sum(w.wait_s for w in state.windows) / sum(w.seconds for w in state.windows)
    assert waited_s > least_host_waits
    # Dispatching takes no time here, but a step that the host waits for takes its time.
    assert percentiles_ms(state.step_s) == pytest.approx((sample_ms, sample_ms))
    assert len(state.step_s) == 1 + (state.steps - 1) // SAMPLE_EVERY


@pytest.mark.parametrize(
    ("step_s", "steps"),
    [
        (0.02, 6),  # the first one that passes the window's 0.1 s, and one to be counted behind it
        (0.09, 5),  # at least five, because the host waits for all of them at the window's end
        (0.6, 2),  # but not if that takes more than a second
    ],
)
def test_a_window_on_a_device_has_five_steps_or_lasts_a_second(step_s: float, steps: int) -> None:
    clock = FakeClock()
    device = FakeDevice(clock, batch_s=step_s, step_s=step_s)

    state = measure(device, RULE, clock, clock)

    # The first window has a sample, which takes as long as two steps here.
    assert state.windows[-1].examples == pytest.approx(32 * steps, abs=32)


def test_a_sample_is_left_when_the_first_windows_are_dropped() -> None:
    # Planted: the first two counted windows are twice as fast. The first sample is in one of them,
    # and so few steps follow that the next sample wouldn't be due.
    clock = FakeClock()
    fast_s = RULE.startup_s + 3 * RULE.window_s
    device = FakeDevice(clock, 1e-9, 1 / 64, slower_at=fast_s, slower_s=1 / 32)

    state = measure(device, RULE, clock, clock)

    assert state.startup_s > fast_s  # they were dropped
    assert state.settled
    assert percentiles_ms(state.step_s) == pytest.approx((1e3 / 32, 1e3 / 32))


def test_a_step_longer_than_a_window_still_gives_enough_windows() -> None:
    state = run(FakeFeed(FakeClock(), wait_s=lambda n, now: 0.0, step_s=1.0))

    assert len(state.windows) == RULE.min_windows
    assert mean_rate(state.windows) == pytest.approx(32.0)


def test_batches_that_were_ready_at_the_start_are_not_counted() -> None:
    # Planted: a full buffer of 40 batches, then 100 batches/s.
    state = run(FakeFeed(FakeClock(), wait_s=lambda n, now: 0.001 if n < 40 else 0.01))

    assert mean_rate(state.windows) == pytest.approx(3_200.0)


def test_a_rate_that_decays_is_measured_until_it_does_not() -> None:
    # Planted: the buffer lasts well past the start-up and into the counted windows.
    feed = FakeFeed(FakeClock(), wait_s=lambda n, now: 0.001 if now < 0.8 else 0.01)

    state = run(feed)

    assert mean_rate(state.windows) == pytest.approx(3_200.0, rel=0.01)
    assert state.settled
    assert state.startup_s > 0.5  # dropped windows count as start-up


def test_a_rate_that_never_settles_ends_and_says_so() -> None:
    # Planted: the wait grows by a fifth every second, for ever.
    feed = FakeFeed(FakeClock(), wait_s=lambda n, now: 0.01 * 1.2**now)

    state = run(feed)

    assert not state.settled
    assert feed.clock.now < RULE.startup_s + 3 * RULE.max_s


def test_noise_ends_by_time_with_its_interval() -> None:
    rng = random.Random(1)
    feed = FakeFeed(FakeClock(), wait_s=lambda n, now: rng.choice([0.002, 0.018]))

    state = run(feed)

    assert state.stopped == "time"
    found = interval(state.windows)
    assert found.low < 3_200.0 < found.high


def test_a_clearly_worse_trial_stops_early_with_what_it_measured() -> None:
    state = run(FakeFeed(FakeClock(), wait_s=lambda n, now: 0.01), best=10_000.0)

    assert state.stopped == "pruned"
    assert mean_rate(state.windows) == pytest.approx(3_200.0)


def test_a_trial_near_the_best_is_not_pruned() -> None:
    state = run(FakeFeed(FakeClock(), wait_s=lambda n, now: 0.01), best=3_400.0)

    assert state.stopped == "precise"


def test_autotune_is_warmed_up_until_its_choices_have_stood() -> None:
    feed = FakeFeed(FakeClock(), wait_s=lambda n, now: 0.01)
    # Changes until second 4 after the first batch, which takes 0.01 s.
    feed.choice = lambda now: ("buffer_size", min(int(now - 0.01), 4))

    state = run(feed, RULE.model_copy(update={"warmup_max_s": 15.0}))

    # Settled means unchanged for half of the time. The last change was at 4 s, so that is at 8 s.
    assert 7.9 < state.startup_s < 8.5


def test_autotune_that_never_settles_is_measured_after_the_longest_warm_up() -> None:
    feed = FakeFeed(FakeClock(), wait_s=lambda n, now: 0.01)
    feed.choice = lambda now: now

    state = run(feed, RULE.model_copy(update={"warmup_max_s": 9.0}))

    assert state.startup_s == pytest.approx(9.0, abs=0.2)


def test_autotune_gets_its_warm_up_even_if_it_never_changes_its_mind() -> None:
    feed = FakeFeed(FakeClock(), wait_s=lambda n, now: 0.01)
    feed.choice = lambda now: "as before"

    state = run(feed, RULE.model_copy(update={"warmup_max_s": 15.0}))

    assert state.startup_s == pytest.approx(3.0, abs=0.2)


def test_autotune_that_cannot_be_read_is_warmed_up_until_its_rate_has_settled() -> None:
    # Planted: twice as fast from second 2 on. At 4 s, all of the last half is fast. At 3.8 s, so
    # little of it is still slow that its two quarters agree within the share.
    feed = FakeFeed(FakeClock(), wait_s=lambda n, now: 0.02 if now < 2.0 else 0.01)
    feed.choice = lambda now: UNREADABLE

    state = run(feed, RULE.model_copy(update={"warmup_max_s": 15.0}))

    assert 3.7 < state.startup_s < 4.1
    assert mean_rate(state.windows) == pytest.approx(3_200.0)


@pytest.mark.parametrize("choice", ["as before", UNREADABLE])
def test_autotune_s_warm_up_begins_with_its_first_batch(choice: str) -> None:
    # Planted: a shuffle that fills for 20 s, then 100 batches/s, and twice as many from second 22.
    feed = FakeFeed(
        FakeClock(), wait_s=lambda n, now: 20.0 if n == 0 else 0.01 if now < 22.0 else 0.005
    )
    feed.choice = lambda now: choice

    state = run(feed, RULE.model_copy(update={"warmup_max_s": 15.0}))

    assert 23.0 <= state.startup_s < 24.5
    assert mean_rate(state.windows) == pytest.approx(6_400.0)


def test_autotune_s_warm_up_ends_only_when_its_rate_has_settled() -> None:
    # Planted: its choices never change, but its buffers hold 250 batches, which come for free.
    feed = FakeFeed(FakeClock(), wait_s=lambda n, now: 0.008 if n < 250 else 0.04)
    feed.choice = lambda now: "as before"

    state = run(feed, RULE.model_copy(update={"warmup_max_s": 15.0}))

    # They last for 2 s. By its choices alone it would end at 3 s, a fifth of the longest.
    assert 3.6 < state.startup_s < 4.5
    assert mean_rate(state.windows) == pytest.approx(800.0)


def test_autotune_s_warm_up_takes_a_least_number_of_batches() -> None:
    feed = FakeFeed(FakeClock(), wait_s=lambda n, now: 0.25)
    feed.choice = lambda now: "as before"

    state = run(feed, RULE.model_copy(update={"warmup_max_s": 15.0}))

    assert state.startup_s == pytest.approx(LEAST_BATCHES * 0.25)


def test_a_rate_that_stands_from_the_first_ends_the_warm_up_at_a_fifth() -> None:
    feed = FakeFeed(FakeClock(), wait_s=lambda n, now: 0.01)
    feed.choice = lambda now: UNREADABLE

    state = run(feed, RULE.model_copy(update={"warmup_max_s": 15.0}))

    assert state.startup_s == pytest.approx(3.0, abs=0.2)


def test_a_rate_that_never_settles_is_measured_after_the_longest_warm_up() -> None:
    feed = FakeFeed(FakeClock(), wait_s=lambda n, now: 0.01 * 0.9**now)
    feed.choice = lambda now: UNREADABLE

    state = run(feed, RULE.model_copy(update={"warmup_max_s": 9.0}))

    assert state.startup_s >= 9.0


def test_a_rate_settles_on_its_last_two_quarters() -> None:
    def found(*rates: float) -> bool:
        return rate_settled([window(rate, 1.0) for rate in rates], float(len(rates)))

    assert found(500, 700, 900, 950, 1_000, 1_000, 1_000, 1_040)
    assert not found(500, 700, 900, 950, 1_000, 1_000, 1_060, 1_060)
    assert not found(500, 700, 900, 950, 1_000, 1_000, 940, 940)  # nor is a falling rate settled
    assert not found(1_000, 1_000, 1_000)  # too few to tell


def test_settled_looks_back_over_half_of_the_time() -> None:
    history = [(1.0, "a"), (2.0, "b"), (3.0, "b"), (4.0, "b")]

    assert settled(history, 4.0)
    assert not settled(history, 2.0)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = random.Random(7)
    hits = 0
    for _ in range(400):
        found = interval([window(rng.gauss(10_000, 800)) for _ in range(12)])
        hits += found.low <= 10_000 <= found.high

    assert 0.92 <= hits / 400 <= 0.99


def test_correlated_windows_carry_less_information() -> None:
    rng = random.Random(3)
    independent = [rng.gauss(0, 1) for _ in range(400)]
    walk = [0.0]
    for value in independent:
        walk.append(0.8 * walk[-1] + value)

    assert effective_count(independent) > 300
    # The theory for a lag-1 correlation of 0.8 gives a ninth: (1 - 0.8) / (1 + 0.8).
    assert effective_count(walk) == pytest.approx(400 / 9, rel=0.4)


def test_one_window_proves_nothing() -> None:
    assert interval([window(1_000)]).high == math.inf


def test_a_drift_must_exceed_both_the_noise_and_three_percent() -> None:
    rng = random.Random(5)
    noisy = [window(rng.gauss(1_000, 200), 1.0) for _ in range(15)]
    slight = [window(10_000 + 10 * i, 1.0) for i in range(15)]
    falling = [window(10_000 - 100 * i, 1.0) for i in range(15)]

    assert not drifts(noisy)
    assert not drifts(slight)
    assert drifts(falling)
    assert drifts(falling[::-1])


def test_pruning_needs_the_whole_interval_below_the_share() -> None:
    rates = [900, 1_000, 1_100, 950, 1_050, 1_000]
    windows = [window(rate, 1.0) for rate in rates]

    assert interval(windows).high > 1_050
    assert not prunable(windows, 1_100 / RULE.prune_share * 0.9, RULE)
    assert prunable(windows, 2_000.0, RULE)
    assert not prunable(windows, None, RULE)


def test_mean_rate_weighs_windows_by_their_length() -> None:
    windows = [window(1_000, 1.0), window(2_000, 3.0)]

    assert mean_rate(windows) == pytest.approx(1_750.0)
    assert statistics.fmean([w.rate for w in windows]) != pytest.approx(1_750.0)
