"""Rule 1, on a real pipeline: what a prefetch buffer held at the start is not throughput."""

from __future__ import annotations

import time

import pytest

from prefetch_tuning.objectives.loop.training import TrainingFeed
from prefetch_tuning.objectives.measurement import Measurement
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.spec import TrialSpec
from prefetch_tuning.pipelines.chain.build import build_dataset
from prefetch_tuning.pipelines.config import PipelineConfig
from tests.planted.pipelines import Slow

pytestmark = pytest.mark.timing

# Twenty milliseconds a batch. With batches of a few, prefetch 1 really is slower than prefetch 64,
# by a tenth: the generator cannot start on the next one before the step has taken the last, and
# then both want the GIL.
SMALL = PipelineConfig(batch_size=4, prefetch_buffer=1, map_parallelism=1)
LARGE = PipelineConfig(batch_size=4, prefetch_buffer=64, map_parallelism=1)


def naive_rate(config: PipelineConfig, steps: int = 30) -> float:
    """Examples/s as a quick script has it: trace the step on the first batch, then time 30."""
    dataset = build_dataset(Slow(), config)
    feed = TrainingFeed(Slow().build_model(), dataset)
    feed.start()
    feed.trace(feed.next_batch())
    time.sleep(1.0)  # a larger model's tracing, during which the buffer fills
    begin = time.perf_counter()
    for _ in range(steps):
        feed.step(feed.next_batch())
    feed.synchronise()
    return steps * config.batch_size / (time.perf_counter() - begin)


@pytest.mark.parametrize("name", ["Slow", "SlowRagged"])
def test_a_deep_buffer_does_not_make_a_slow_generator_fast(runner: TrialRunner, name: str) -> None:
    results = {}
    for config in (SMALL, LARGE):
        result = runner.measure(
            TrialSpec(pipeline=f"tests.planted.pipelines:{name}", config=config)
        )
        assert isinstance(result, Measurement), result
        results[config] = result

    small, large = results[SMALL], results[LARGE]
    # A busy host changes by a fifth from trial to trial; the naive timing below is off by twice.
    assert 1 / 1.5 < large.examples_per_s / small.examples_per_s < 1.5
    # The generator sleeps 5 ms an element, so more than 200 elements/s cannot be true.
    assert large.examples_per_s < 200
    assert large.wait_fraction > 0.5


def test_a_naive_timing_of_the_same_is_fooled() -> None:
    assert naive_rate(LARGE) > 2 * naive_rate(SMALL)
