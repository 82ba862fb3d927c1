"""Made-up series of memory: which ones are named, when, and how many of many seeds are mistaken."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.random import Generator
from numpy.typing import NDArray

from prefetch_tuning.objectives.monitor.growth import (
    MOST_SAMPLES,
    Growth,
    Trend,
    resident_mib,
    rounded,
)

Floats = NDArray[np.float64]
Series = Callable[[Floats, Generator], Any]
SEEDS = 100
BASE_MIB = 800.0


def named(series: Series, seed: int, until_s: float, every_s: float = 1.0) -> list[Any]:
    """What is said about a series, as pairs of the time and the trend."""
    growth = Growth()
    times = np.arange(0.0, until_s + every_s / 2, every_s)
    sizes = BASE_MIB + series(times, np.random.default_rng(seed))
    said = [(at, growth.add(float(at), float(size))) for at, size in zip(times, sizes, strict=True)]
    return [(at, trend) for at, trend in said if trend is not None]


def count(series: Series, until_s: float, every_s: float = 1.0, seeds: int = SEEDS) -> int:
    """The number of seeds for which something is said."""
    return sum(bool(named(series, seed, until_s, every_s)) for seed in range(seeds))


def noise(times: Floats, rng: Generator, mib: float, alike: float = 0.0) -> Floats:
    """Noise with this standard deviation and lag-one autocorrelation."""
    made = rng.normal(0.0, mib, len(times))
    for i in range(1, len(made)):
        made[i] = alike * made[i - 1] + np.sqrt(1 - alike**2) * made[i]
    return np.asarray(made)


@pytest.mark.parametrize(("mib", "alike"), [(0.0, 0.0), (1.0, 0.0), (1.0, 0.5)])
def test_a_mib_per_second_is_named_within_a_minute(mib: float, alike: float) -> None:
    assert count(lambda t, rng: t + noise(t, rng, mib, alike), 60) >= 0.98 * SEEDS


def test_the_interval_of_the_rate_has_its_confidence() -> None:
    said = [named(lambda t, rng: t + noise(t, rng, 1.0), seed, 60) for seed in range(SEEDS)]
    trends = [pairs[0][1] for pairs in said if pairs]
    assert np.mean([trend.low <= 3600 <= trend.high for trend in trends]) >= 0.92
    assert max(trend.high - trend.low for trend in trends) < 720


def test_the_interval_in_the_first_minute_is_a_little_narrow_for_slow_noise() -> None:
    said = [named(lambda t, rng: t + noise(t, rng, 1.0, 0.7), seed, 60) for seed in range(SEEDS)]
    trends = [pairs[0][1] for pairs in said if pairs]
    assert np.mean([trend.low <= 3600 <= trend.high for trend in trends]) >= 0.8


def test_a_leak_is_named_beside_the_jumps_of_malloc() -> None:
    def series(times: Floats, rng: Generator) -> Floats:
        at = rng.uniform(0, 60, 8)
        jumps = rng.uniform(5, 30, 8) * (times[:, None] > at)
        return np.asarray(times + jumps.sum(axis=1) + noise(times, rng, 0.3))

    assert count(series, 60) >= 0.95 * SEEDS


def test_the_jumps_of_malloc_alone_are_not_named() -> None:
    def series(times: Floats, rng: Generator) -> Floats:
        at = rng.uniform(0, 60, 8)
        jumps = rng.uniform(5, 30, 8) * (times[:, None] > at)
        return np.asarray(jumps.sum(axis=1) + noise(times, rng, 0.3))

    assert count(series, 300) == 0


def test_a_leak_after_a_fast_fill_is_named_within_two_minutes() -> None:
    assert (
        count(lambda t, rng: t + 200 * (1 - np.exp(-t / 10)) + noise(t, rng, 1.0), 120)
        >= 0.98 * SEEDS
    )


@pytest.mark.parametrize("constant_s", [5, 10, 20, 30, 40])
@pytest.mark.parametrize("most_mib", [60, 300, 1500])
def test_buffers_that_fill_are_not_named(constant_s: int, most_mib: int) -> None:
    def series(times: Floats, rng: Generator) -> Floats:
        return most_mib * (1 - np.exp(-times / constant_s)) + noise(times, rng, 2.0)

    assert count(series, 150) <= 1


def test_a_shuffle_buffer_that_fills_at_a_constant_rate_is_not_named() -> None:
    def series(times: Floats, rng: Generator) -> Floats:
        return 5 * np.minimum(times, rng.uniform(10, 42)) + noise(times, rng, 2.0)

    assert count(series, 300) == 0


def test_one_step_is_not_named() -> None:
    def series(times: Floats, rng: Generator) -> Floats:
        step = rng.uniform(20, 800) * (times > rng.uniform(5, 300))
        return np.asarray(step + noise(times, rng, rng.uniform(0, 2)))

    assert count(series, 300) == 0


def test_the_sawtooth_of_garbage_collection_is_not_named() -> None:
    def series(times: Floats, rng: Generator) -> Floats:
        teeth = (times / rng.uniform(3, 30) + rng.uniform()) % 1
        return np.asarray(rng.uniform(20, 300) * teeth + noise(times, rng, 1.0))

    assert count(series, 300) == 0


@pytest.mark.parametrize(("mib", "alike"), [(0.0, 0.0), (3.0, 0.0), (10.0, 0.9)])
def test_flat_memory_is_not_named(mib: float, alike: float) -> None:
    assert count(lambda t, rng: noise(t, rng, mib, alike), 600) == 0


@pytest.mark.parametrize("mib", [0.5, 3.0])
def test_a_random_walk_is_rarely_named(mib: float) -> None:
    assert count(lambda t, rng: np.cumsum(rng.normal(0.0, mib, len(t))), 600) <= 1


def test_a_slow_leak_is_named_within_two_hours() -> None:
    said = [
        named(lambda t, rng: t * 40 / 3600 + noise(t, rng, 3.0, 0.9), seed, 7200, 5.0)
        for seed in range(20)
    ]
    assert all(said)
    assert min(pairs[0][0] for pairs in said) > 24 * 60
    assert all(20 < pairs[0][1].mib_per_hour < 60 for pairs in said)


def test_a_leak_that_begins_late_is_named() -> None:
    def series(times: Floats, rng: Generator) -> Floats:
        return np.maximum(times - 3600, 0.0) + noise(times, rng, 1.0)

    pairs = named(series, 0, 7200, 5.0)
    assert 3600 < pairs[0][0] < 5400


def test_growth_is_named_once_and_again_only_if_it_is_much_worse() -> None:
    assert len(named(lambda t, rng: t, 0, 3600)) == 1
    said = named(lambda t, rng: np.where(t < 600, t, 600 + 5 * (t - 600)), 0, 3600)
    assert len(said) == 2
    assert said[1][1].low > 2 * said[0][1].high


def test_days_of_training_keep_few_samples() -> None:
    growth = Growth()
    for second in range(0, 3 * 86_400, 10):
        growth.add(second, BASE_MIB)
        assert len(growth._samples) < MOST_SAMPLES
        assert len(growth._pending) < growth._per_sample
    assert growth.trend() is None


def test_a_clock_may_start_anywhere_and_samples_may_be_rare() -> None:
    growth = Growth()
    said = [growth.add(1e6 + 30 * i, BASE_MIB + 30 * i) for i in range(60)]
    (trend,) = [trend for trend in said if trend is not None]
    assert trend.mib_per_hour == pytest.approx(3600)
    assert Growth().trend() is None


def test_a_trend_in_words() -> None:
    said = str(Trend(3612.0, 3391.0, 3849.0))
    assert said == "memory grows by about 3,600 MiB per hour (3,400 to 3,800)"
    assert str(Trend(41.7, 36.0, 47.4)) == "memory grows by about 42 MiB per hour (36 to 47)"
    assert [rounded(value) for value in (0.3, 9.6, 10.0, 99.6)] == [0, 10, 10, 100]


def test_resident_memory_includes_the_children_and_is_read_fast() -> None:
    before = resident_mib()
    code = "held = bytearray(b'1') * 2**26; print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert resident_mib() - before > 60
        begin = time.process_time()
        for _ in range(20):
            resident_mib()
        assert (time.process_time() - begin) / 20 < 0.005
        child.communicate(os.linesep.encode())
