"""Compares predictions from the stages' costs with sums done by hand, in µs per example."""

from __future__ import annotations

from typing import Any

import pytest

from prefetch_tuning.experiments.search.axes import offer
from prefetch_tuning.experiments.search.diagnosis import diagnose
from prefetch_tuning.experiments.search.prediction import median_error, predict
from prefetch_tuning.experiments.search.stage_seconds import UNCOVERED, stage_seconds, step_seconds
from prefetch_tuning.experiments.settings import Options
from prefetch_tuning.objectives.stage_costs import LoopCost, OtherNodes, StageCost
from prefetch_tuning.pipelines.config import PipelineConfig
from tests.support.fakes import COSTS, INFO, cost

MANY_CORES = 64


def rate(buffer: int, calls: int, batch_size: int = 8, **changes: Any) -> float:
    config = PipelineConfig(batch_size=batch_size, prefetch_buffer=buffer, map_parallelism=calls)
    return predict(COSTS.model_copy(update=changes), config, MANY_CORES)


def test_without_look_ahead_all_stages_add_up() -> None:
    # 10 + 200 + 100 + 2 before the step, which takes 400 for 8 examples.
    assert rate(0, 1) == pytest.approx(1e6 / (312 + 50))


def test_a_buffer_lets_the_step_overlap() -> None:
    assert rate(4, 1) == pytest.approx(1e6 / (312 + UNCOVERED * 50 / 4))
    assert rate(64, 1) > rate(1, 1)


def test_the_step_waits_for_its_copy_unless_that_is_copied_ahead() -> None:
    on_gpu = COSTS.model_copy(update={"device_copy": cost(400.0)})

    def seconds(ahead: int, buffer: int) -> float:
        config = PipelineConfig(
            batch_size=8, prefetch_buffer=buffer, map_parallelism=1, device_prefetch=ahead
        )
        return 1e6 / predict(on_gpu, config, MANY_CORES)

    # 312 up to the batch, then a copy of 400 before a step of 50.
    assert seconds(0, 0) == pytest.approx(312 + 400 + 50)
    assert seconds(0, 4) == pytest.approx(450 + UNCOVERED * 312 / 4)
    # The thread that copies ahead also waits for the batches, and the step overlaps with both.
    assert seconds(2, 0) == pytest.approx(312 + 400 + UNCOVERED * 50 / 2)
    both = 400 + UNCOVERED * 312 / 4
    assert seconds(2, 4) == pytest.approx(both + UNCOVERED * 50 / 2)


def test_where_nothing_is_copied_copying_ahead_changes_nothing() -> None:
    plain = PipelineConfig(batch_size=8, prefetch_buffer=4, map_parallelism=1)
    ahead = plain.model_copy(update={"device_prefetch": 2})

    assert predict(COSTS, ahead, MANY_CORES) == predict(COSTS, plain, MANY_CORES)


def test_calls_in_flight_take_the_map_off_the_generators_thread() -> None:
    assert rate(64, 2) == pytest.approx(1e6 / (210 + UNCOVERED * 50 / 64))


def test_blocks_share_the_price_of_handing_over() -> None:
    # An element in a block of 100 costs 10: 2 are its share of the call's 200, and 8 are for being
    # put there.
    chunked = COSTS.model_copy(update={"chunk": 100, "chunked": cost(10.0)})

    def seconds(chunk: int, **more: Any) -> float:
        config = PipelineConfig(
            batch_size=8, prefetch_buffer=0, map_parallelism=1, generator_chunk=chunk, **more
        )
        return 1e6 / predict(chunked.model_copy(update={"batch_map": cost(5.0)}), config, 64)

    assert seconds(1) == pytest.approx(10 + 200 + 100 + 2 + 50)
    assert seconds(20) == pytest.approx(10 + (10 + 8) + 100 + 2 + 50)
    # A map on batches needs no separate regrouping, so the 2 for the batch are gone.
    assert seconds(20, vectorized_map=True) == pytest.approx(10 + (10 + 8) + 5 + 50)


def test_processes_take_the_generator_off_this_ones_thread() -> None:
    def seconds(workers: int, generator: StageCost, cores: int) -> float:
        config = PipelineConfig(
            batch_size=8, prefetch_buffer=0, map_parallelism=1, generator_workers=workers
        )
        return 1e6 / predict(COSTS.model_copy(update={"generator": generator}), config, cores)

    waiting, busy = cost(4_000.0, cpu_us=10.0), cost(4_000.0)

    # A message of 8 elements costs as much as handing over one element: 200, so 25 for each.
    assert seconds(2, waiting, 2) == pytest.approx(2_000 + 25 + 50)
    assert seconds(32, waiting, 2) == pytest.approx(200 + 100 + 2 + 50)
    # Two cores give at most two seconds of processor time per second.
    assert seconds(32, busy, 2) == pytest.approx((4_000 + 225 + 100 + 2 + 50) / 2)


def test_a_map_is_never_faster_than_was_measured() -> None:
    slow_map = cost(1_000.0)

    assert rate(64, 64, map=slow_map) == rate(64, 2, map=slow_map)
    assert rate(64, 8, map=slow_map, map_speedup=0.8) < rate(64, 1, map=slow_map)


def test_threads_let_a_map_that_waits_do_so_many_times_at_once() -> None:
    """Seen: a map that waits 4 ms reached 451 examples/s with 6 calls, 2,838 with 16 threads."""
    waiting = {"map": cost(4_000.0, cpu_us=40.0), "map_speedup": 1.2}
    # 100 of the 4,000 are spent one call after another: 4,000 / 64 + 100 is 4,000 / (64 / 2.6).
    measured = {**waiting, "waiting_speedup": 64 / 2.6, "waiting_calls": 64}

    def seconds(calls: int, threads: int | str, **costs: Any) -> float:
        config = PipelineConfig.model_validate(
            {
                "batch_size": 8,
                "prefetch_buffer": 64,
                "map_parallelism": calls,
                "thread_pool_size": threads,
            }
        )
        return 1e6 / predict(COSTS.model_copy(update=costs), config, MANY_CORES)

    shared_s = 4_000 / 1.2
    step_s = UNCOVERED * 50 / 64
    assert seconds(16, 0, **measured) == pytest.approx(shared_s + step_s)
    free = {**measured, "from_generator": cost(0.0)}
    assert seconds(8, "unbounded", **free) == pytest.approx(500 + 100 + step_s)
    assert seconds(64, "unbounded", **free) == pytest.approx(62.5 + 100 + step_s)
    # As many calls run at once as there are threads in the pool or calls, whichever is less.
    assert seconds(64, 4, **free) == pytest.approx(1_000 + 100 + step_s)
    assert seconds(2, 16, **free) == pytest.approx(2_000 + 100 + step_s)
    assert seconds(16, "unbounded", **waiting) == seconds(16, 0, **waiting)


def test_a_map_with_threads_needs_the_processor_time_that_was_measured_with_them() -> None:
    """Seen: 677 µs of waking up, measured one call after another, hid what 64 threads reach."""
    threads = PipelineConfig(
        batch_size=8, prefetch_buffer=64, map_parallelism=64, thread_pool_size="unbounded"
    )
    waiting = {
        "map": cost(4_000.0, cpu_us=700.0),
        "from_generator": cost(20.0),
        "waiting_speedup": 27.0,
        "waiting_calls": 64,
    }
    costs = COSTS.model_copy(update=waiting)
    measured = costs.model_copy(update={"waiting_cpu_s": 100e-6})

    assert 1e6 / predict(costs, threads, 2) == pytest.approx((10 + 20 + 700 + 2 + 50) / 2)
    step_s = UNCOVERED * 50 / 64
    assert 1e6 / predict(measured, threads, 2) == pytest.approx(4_000 / 27 + step_s)


def test_a_map_in_python_shares_the_gil_with_the_generator() -> None:
    """Seen at 32 threads: blocks of 4 reached 4,200 examples/s, blocks of 256 reached 6,500."""

    def seconds(calls: int, **costs: Any) -> float:
        config = PipelineConfig.model_validate(
            {
                "batch_size": 8,
                "prefetch_buffer": 64,
                "map_parallelism": calls,
                "thread_pool_size": "unbounded",
            }
        )
        return 1e6 / predict(COSTS.model_copy(update=costs), config, MANY_CORES)

    step_s = UNCOVERED * 50 / 64
    held = {"map": cost(300.0), "map_speedup": 1.0, "map_is_python": True}
    # All of it under the GIL: the generator's 10, 200 for handing over, and the map's 300.
    assert seconds(2, **held) == pytest.approx(510 + step_s)
    # NumPy releases the GIL while it computes, so the map waits for only half of those 210.
    freed = {**held, "map_speedup": 2.0, "map_calls": 2}
    assert seconds(2, **freed) == pytest.approx(150 + 105 + step_s, rel=0.02)
    assert seconds(2, **{**freed, "map_is_python": False}) == pytest.approx(210 + step_s)
    # The calls of a map that waits spend 100 one after another.
    waits = {"map": cost(4_000.0, cpu_us=700.0), "waiting_cpu_s": 100e-6, "map_is_python": True}
    waits.update(waiting_speedup=64 / 2.6, waiting_calls=64)
    assert seconds(64, **waits) == pytest.approx(310 + step_s)
    assert seconds(2, **{**waits, "map_speedup": 1.0}) == pytest.approx(2_205 + step_s)


def test_one_thread_in_each_op_costs_what_was_measured_with_it() -> None:
    def of(threads: int) -> float:
        config = PipelineConfig(
            batch_size=8, prefetch_buffer=0, map_parallelism=1, max_intra_op_parallelism=threads
        )
        costs = COSTS.model_copy(update={"single_thread_map": cost(60.0)})
        return 1e6 / predict(costs, config, MANY_CORES)

    assert of(0) - of(1) == pytest.approx(40.0)


def test_a_step_that_takes_longest_decides() -> None:
    assert rate(64, 1, batch_size=4, step_s={4: 4e-3}) == pytest.approx(
        1e6 / (1_000 + UNCOVERED * 312 / 64)
    )


def test_nothing_gets_more_than_all_cores() -> None:
    config = PipelineConfig(batch_size=8, prefetch_buffer=64, map_parallelism=2)

    # 10 + 200 + 100 + 2 + 50 of processor time, on a single core.
    assert predict(COSTS, config, 1) == pytest.approx(1e6 / 362)


def test_a_step_between_and_beyond_the_measured_sizes_lies_on_a_line() -> None:
    assert step_seconds(COSTS, 6) == pytest.approx(350e-6)
    assert step_seconds(COSTS, 16) == pytest.approx(600e-6)
    assert step_seconds(COSTS, 2) == pytest.approx(300e-6)


def loop(batch_size: int, calls: int, times: float) -> LoopCost:
    """A loop that took `times` as long as its stages' costs predict."""
    settings = {"batch_size": batch_size, "prefetch_buffer": 4, "map_parallelism": calls}
    expected_s = stage_seconds(COSTS, PipelineConfig.model_validate(settings), MANY_CORES)
    return LoopCost(**settings, wall_s=times * expected_s)


def test_a_whole_loop_corrects_the_stages_with_and_without_parallel_calls() -> None:
    loops = [loop(8, 1, 1.25), loop(8, 2, 1.5)]

    assert rate(16, 1, loops=loops) == pytest.approx(rate(16, 1) / 1.25)
    assert rate(16, 8, loops=loops) == pytest.approx(rate(16, 8) / 1.5)


def test_what_the_smallest_batch_takes_longer_is_the_price_of_a_batch() -> None:
    loops = [loop(4, 1, 1.5), loop(8, 1, 1.0)]

    assert rate(4, 1, batch_size=8, loops=loops) == pytest.approx(rate(4, 1, batch_size=8))
    assert rate(4, 1, batch_size=4, loops=loops) == pytest.approx(rate(4, 1, batch_size=4) / 1.5)
    # In batches per example, 6 is two thirds of the way from 4 to 8: a third of the price is left.
    between = 1 / rate(4, 1, batch_size=6, loops=loops) - 1 / rate(4, 1, batch_size=6)
    extra = 1 / rate(4, 1, batch_size=4, loops=loops) - 1 / rate(4, 1, batch_size=4)
    assert between == pytest.approx(extra / 3)


def test_the_error_is_the_median_of_its_sizes() -> None:
    assert median_error([(110.0, 100.0), (80.0, 100.0), (100.0, 100.0)]) == pytest.approx(0.1)
    assert median_error([]) is None


def test_the_first_of_few_passes_is_as_slow_as_without_a_cache() -> None:
    slow = {"generator": cost(1_000.0), "from_generator": cost(200.0)}
    config = PipelineConfig(batch_size=8, prefetch_buffer=16, map_parallelism=1, cache=True)
    uncached = config.model_copy(update={"cache": False})
    without = predict(COSTS.model_copy(update=slow), uncached, MANY_CORES)

    def cached(epochs: int | None) -> float:
        costs = COSTS.model_copy(update={**slow, "epochs": epochs})
        return predict(costs, config, MANY_CORES)

    always, once, thrice = cached(None), cached(1), cached(3)

    assert once == without
    assert without < thrice < always


def test_other_nodes_run_the_generator_as_far_as_the_network_carries() -> None:
    slow = COSTS.model_copy(update={"generator": cost(1_000.0), "map": None})

    def seconds(workers: int, **elsewhere: Any) -> float:
        config = PipelineConfig(
            batch_size=8, prefetch_buffer=64, map_parallelism=1, generator_workers=workers
        )
        others = OtherNodes(own_cores=2, **elsewhere) if elsewhere else None
        costs = slow.model_copy(update={"elsewhere": others, "from_generator": cost(0.0)})
        return 1e6 * stage_seconds(costs, config, 2.0)

    overlapped = UNCOVERED * 50 / 64
    assert seconds(8) == pytest.approx((1_000 + 2 + 50) / 2)
    # A quarter of the generator is left to the two cores here.
    assert seconds(8, here=2, cores=[4, 2], sending_s=0.0) == pytest.approx((250 + 2 + 50) / 2)
    # Six of eight examples come through the network.
    carried = seconds(8, here=2, cores=[4, 2], sending_s=1e-3)
    assert carried == pytest.approx(750.0 + overlapped)
    # As many processes as this host has cores need no network.
    assert seconds(2, here=2, cores=[4, 2], sending_s=1e-3) == seconds(2)


def test_on_a_cluster_processes_fill_nodes_or_are_what_the_step_needs() -> None:
    slow = COSTS.model_copy(
        update={
            "generator": cost(300.0),
            "elsewhere": OtherNodes(own_cores=2, here=2, cores=[8, 8, 8, 4, 4], sending_s=0.0),
        }
    )
    info = INFO.model_copy(update={"axes": [*INFO.axes, "generator_workers"], "not_offered": {}})

    space = offer(info, Options(), diagnose(slow, 2.0), 2.0).space

    axis = next(axis for axis in space.axes if axis.name == "generator_workers")
    # 300 us for an example of which a step takes 50.
    assert axis.choices == (0, 1, 2, 6, 10, 18, 30, 34)
