"""Nothing for free, on a real pipeline: batches buffered at the start are not throughput."""

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

# A batch takes 20 ms. At only a few ms per batch, prefetch 1 really is a tenth slower than prefetch
# 64: the generator can't start on the next batch before the step has taken the last one, and then
# both want the GIL.
SMALL = PipelineConfig(batch_size=4, prefetch_buffer=1, map_parallelism=1)
LARGE = PipelineConfig(batch_size=4, prefetch_buffer=64, map_parallelism=1)


def naive_rate(config: PipelineConfig, steps: int = 30) -> float:
    """Examples/s as a quick script measures it: traces on the first batch, then times 30 steps."""
    dataset = build_dataset(Slow(), config)
    feed = TrainingFeed(Slow().build_model(), dataset)
    feed.start()
    feed.trace(feed.next_batch(), stepping=True)
    time.sleep(1.0)  # stands in for tracing a larger model while the buffer fills
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
    # A busy host's rate changes by a fifth between trials; the naive timing below is off by 2x.
    assert 1 / 1.5 < large.examples_per_s / small.examples_per_s < 1.5
    # The generator sleeps 5 ms per element, so a rate above 200 elements/s can't be true.
    assert large.examples_per_s < 200
    assert large.host_wait_fraction > 0.5


def test_a_naive_timing_of_the_same_is_fooled() -> None:
    assert naive_rate(LARGE) > 2 * naive_rate(SMALL)
