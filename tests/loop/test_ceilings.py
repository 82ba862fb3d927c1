"""What each half of the loop reaches alone, measured on real pipelines of known speed."""

from __future__ import annotations

import itertools

import pytest

from prefetch_tuning.objectives.loop.buffers import batches_held, ready_batches
from prefetch_tuning.objectives.loop.ceilings import Taking, drain
from prefetch_tuning.objectives.loop.steady_state import measure
from prefetch_tuning.objectives.loop.windows import mean_rate
from prefetch_tuning.objectives.measurement import AutotuneNode, LimitTerms, Measurement
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.spec import StopRule, TrialSpec
from prefetch_tuning.pipelines.config import PipelineConfig
from tests.support.fakes import FakeClock

pytestmark = pytest.mark.timing

RULE = StopRule(window_s=0.05, startup_s=0.1, min_windows=4, max_s=0.4, warmup_max_s=2.0)


def measured(runner: TrialRunner, name: str, config: PipelineConfig) -> Measurement:
    result = runner.measure(
        TrialSpec(
            pipeline=f"tests.planted.{name}", config=config, device="cpu", stop=RULE, ceilings=True
        )
    )
    assert isinstance(result, Measurement), result
    assert result.ceilings is not None
    return result


def config(batch_size: int, buffer: int) -> PipelineConfig:
    return PipelineConfig(batch_size=batch_size, prefetch_buffer=buffer, map_parallelism=1)


def test_a_slow_generator_is_what_the_producer_reaches(runner: TrialRunner) -> None:
    found = measured(runner, "pipelines:Slow", config(4, 2))

    assert found.ceilings is not None
    assert 70 < found.ceilings.producer_only <= 200
    assert found.examples_per_s <= 1.3 * found.ceilings.producer_only
    assert found.measured_s > found.ceilings.measured_s + found.startup_s


def test_autotunes_chain_is_measured_like_any_other(runner: TrialRunner) -> None:
    found = measured(runner, "pipelines:Slow", PipelineConfig.autotune(4))

    assert found.autotune
    assert found.ceilings is not None
    assert 70 < found.ceilings.producer_only <= 200


def test_batches_that_lay_ready_are_not_free(runner: TrialRunner) -> None:
    """Planted: a heavy step leaves 64 batches buffered; the generator makes 200 elements/s."""
    found = measured(runner, "costs:SlowHeavy", config(1, 64))

    assert found.ceilings is not None
    assert found.ceilings.producer_only <= 220


def terms(runner: TrialRunner, name: str, batch_size: int, *, vectorized: bool) -> LimitTerms:
    found = runner.measure_limit(
        f"tests.planted.{name}", batch_size, 0, "cpu", vectorized=vectorized
    )
    assert isinstance(found, LimitTerms), found
    return found


def test_the_limits_generator_runs_alone(runner: TrialRunner) -> None:
    found = terms(runner, "pipelines:Slow", 4, vectorized=False)

    assert found.generator_examples_per_s is not None
    assert 70 < found.generator_examples_per_s <= 200
    assert found.generator_cpu_s < 0.002
    assert found.map_cpu_s == 0.0
    assert found.step_examples_per_s > 2_000


@pytest.mark.slow
def test_the_limits_map_is_the_cheapest_way_of_mapping(runner: TrialRunner) -> None:
    """Planted: a map that computes for 0.5 ms, and one for whole batches that costs nothing."""
    one_by_one = terms(runner, "costs:Wasteful", 32, vectorized=False)
    in_batches = terms(runner, "costs:Wasteful", 32, vectorized=True)

    assert one_by_one.map_cpu_s > 2e-4
    assert in_batches.map_cpu_s < 1e-4


@pytest.mark.slow
def test_a_heavy_step_is_measured_alone(runner: TrialRunner) -> None:
    """Compares it with a trial of the same step behind a generator that costs nothing."""
    found = measured(runner, "costs:HeavyModel", config(8, 4))
    alone = terms(runner, "costs:HeavyModel", 8, vectorized=False)

    assert alone.step_cpu_s > alone.generator_cpu_s
    assert 0.5 < found.examples_per_s / alone.step_examples_per_s < 1.5
    assert 0.3 < found.cpu_utilisation < 1.2


def test_a_chain_of_ones_own_has_no_generator_to_run_alone(runner: TrialRunner) -> None:
    found = terms(
        runner,
        "chains:make_dataset,model=tests.planted.chains:make_model",
        8,
        vectorized=False,
    )

    assert (found.generator_examples_per_s, found.generator_cpu_s) == (None, 0.0)
    assert found.step_examples_per_s > 0.0


@pytest.mark.parametrize(
    ("ready", "most", "found"),
    [(5, 8, 5), (7, 8, 7), (8, 8, 8), (20, 8, 8), (0, 8, 0), (3, 0, 0)],
)
def test_only_batches_that_are_ready_are_taken(ready: int, most: int, found: int) -> None:
    """Planted: batches that are ready take 1 ms, the others 20 ms as in the loop."""
    clock = FakeClock()
    left = ready

    def next_batch() -> None:
        nonlocal left
        clock.now += 0.001 if left > 0 else 0.02
        left -= 1

    assert drain(next_batch, most, 0.02, clock) == found
    assert left in (ready - found, ready - found - 1, ready - found - 2)


def test_a_pause_of_the_host_does_not_look_like_an_empty_buffer() -> None:
    """Planted: 12 batches are ready at 1 ms each, but the host pauses for 30 ms in the third."""
    clock = FakeClock()
    seconds = iter([0.001, 0.001, 0.031] + 9 * [0.001] + 8 * [0.02])

    def next_batch() -> None:
        clock.now += next(seconds)

    assert drain(next_batch, 20, 0.02, clock) == 12


def test_a_chain_that_makes_batches_as_fast_as_it_is_asked_is_not_asked_for_long() -> None:
    """Planted: a batch takes 20 ms with the step and 5 ms without it; a thousand may be ready."""
    clock = FakeClock()

    def next_batch() -> None:
        clock.now += 0.005

    assert drain(next_batch, 1_000, 0.02, clock, most_s=1.0) == 1_000
    assert clock.now == pytest.approx(1.0, abs=0.01)


def test_a_batch_that_takes_longer_than_the_look_was_waited_for() -> None:
    """Planted: nothing is ready, and a batch takes 1.2 s."""
    clock = FakeClock()

    def next_batch() -> None:
        clock.now += 1.2

    assert drain(next_batch, 64, 0.6, clock, most_s=1.0) == 0


def test_nothing_is_measured_that_was_not_asked_for(runner: TrialRunner) -> None:
    spec = TrialSpec(
        pipeline="tests.planted.pipelines:Mapped", config=config(4, 1), stop=RULE, device="cpu"
    )
    result = runner.measure(spec)

    assert isinstance(result, Measurement)
    assert result.ceilings is None


def test_what_may_lie_ready_is_told_or_chosen() -> None:
    nodes = [
        AutotuneNode(node="Prefetch", parameter="buffer_size", value=3.0, buffered_bytes=0),
        AutotuneNode(node="ParallelMap", parameter="parallelism", value=4.0, buffered_bytes=0),
    ]

    assert ready_batches(config(8, 5), []) == 5
    assert ready_batches(PipelineConfig.no_prefetch(8), []) == 0
    assert ready_batches(PipelineConfig.autotune(8), nodes) == 4
    # Each call of a map on batches holds a whole one.
    on_batches = config(8, 5).model_copy(update={"vectorized_map": True, "map_parallelism": 4})
    assert batches_held(on_batches, []) == 9.0


def test_a_short_batch_counts_with_its_examples() -> None:
    """Batches of 4 and 2 examples alternate, and each takes 0.125 s, which adds up exactly."""
    clock, sizes = FakeClock(), itertools.cycle((4, 2))

    def take() -> int:
        clock.now += 0.125
        return next(sizes)

    state = measure(Taking(take), RULE.model_copy(update={"window_s": 0.25}), clock, clock)
    assert mean_rate(state.windows) == pytest.approx(24.0)  # 32 if each had four
