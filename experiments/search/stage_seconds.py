"""Seconds that an example takes under a configuration, by the costs of its stages. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from prefetch_tuning.experiments.search.diagnosis import stages
from prefetch_tuning.objectives.stage_costs import StageCost, StageCosts
from prefetch_tuning.pipelines.chain.blocks import block_size
from prefetch_tuning.pipelines.config import UNBOUNDED, PipelineConfig

# Share of the shorter side's time that a single buffered batch leaves uncovered: whoever waits for
# the other is woken late, and twice the buffer halves how often that happens.
UNCOVERED = 0.2
# Share of the generator's time under the GIL that the calls of a Python map wait for it, though
# both overlap. Seen with 64 threads: blocks of 16 made a fifth less than blocks of 256.
GIL_WAIT = 0.5
NOTHING = StageCost(wall_s=0.0, cpu_s=0.0)


def stage_seconds(costs: StageCosts, config: PipelineConfig, cores: float) -> float:
    """Seconds per example by the stages' own costs.

    The generator's thread, the map's calls and the step each take their own time when a buffer
    lies between them; without one the times add up. The queue of a PyDataset's workers is such a
    buffer, too. The step waits for the copy of its batch to the device unless `device_prefetch`
    has it copied ahead. No configuration gets more than all cores, and Python no more than one GIL.
    """
    step_s = step_seconds(costs, config.batch_size) / config.batch_size
    made = production(costs, config, cores)
    before_s = produce_seconds(costs, made, config, cores)
    buffer = int(config.prefetch_buffer) + (config.max_queue_size if config.workers > 1 else 0)
    copy_s = costs.device_copy.wall_s if costs.device_copy else 0.0
    if costs.device_copy and config.device_prefetch:
        # A thread of its own takes what is ready and copies it, while the step runs.
        copied_s = side_by_side(before_s, copy_s, buffer)
        seconds = side_by_side(copied_s, step_s, config.device_prefetch)
    else:
        seconds = side_by_side(before_s, copy_s + step_s, buffer)
    cpu_s = sum(cost.cpu_s for cost in made.values())
    cpu_s += costs.step.cpu_s * step_s / max(costs.step.wall_s, 1e-9)
    return max(seconds, cpu_s / cores)


def side_by_side(first_s: float, second_s: float, buffer: int) -> float:
    """Seconds of two that hand over through a buffer of so many batches; 0 has them take turns."""
    if buffer == 0:
        return first_s + second_s
    return max(first_s, second_s) + UNCOVERED * min(first_s, second_s) / buffer


def production(costs: StageCosts, config: PipelineConfig, cores: float) -> dict[str, StageCost]:
    """What each stage before the step costs an example under these settings."""
    made = {str(name): cost for name, cost in stages(costs).items() if name != "step"}
    if config.generator_chunk > 1 and costs.chunked is not None:
        made["from_generator"] = _handed_over(costs, costs.chunked, config.generator_chunk)
    regrouped = costs.map is None or config.vectorized_map
    if config.generator_chunk > 1 and regrouped:
        made["batch"] = NOTHING  # regrouping the blocks is part of handing them over
    if config.vectorized_map and costs.batch_map is not None:
        made["map"] = costs.batch_map
    elif config.max_intra_op_parallelism == 1 and costs.single_thread_map is not None:
        made["map"] = costs.single_thread_map
    elif config.thread_pool_size and costs.waiting_cpu_s is not None:
        made["map"] = made["map"].model_copy(update={"cpu_s": costs.waiting_cpu_s})
    if config.generator_workers:
        alone = costs.generator
        wall_s = max(alone.wall_s / config.generator_workers, alone.cpu_s / cores)
        # Each block comes in a message, which wakes a thread as handing over an element does, and
        # in its turn. Seen with 32 processes: blocks of 8 made a third less than blocks of 32.
        message, size = costs.from_generator, block_size(config)
        made["generator"] = StageCost(
            wall_s=wall_s + message.wall_s / size, cpu_s=alone.cpu_s + message.cpu_s / size
        )
    if config.workers > 1:
        made["generator"] = _by_workers(costs.generator, config, cores)
    return made


def _by_workers(alone: StageCost, config: PipelineConfig, cores: float) -> StageCost:
    """The batches of a PyDataset, made by several threads or processes at once.

    Threads share one GIL, processes the cores. Keras has no more batches under way than its queue
    holds and two: the one that is waited for, and the one that waits for room.
    """
    at_once = min(config.workers, config.max_queue_size + 2)
    busy_s = alone.cpu_s / cores if config.use_multiprocessing else alone.cpu_s
    # Where NumPy computes in threads of its own, processor time exceeds that of the clock.
    wall_s = min(max(alone.wall_s / at_once, busy_s), alone.wall_s)
    return StageCost(wall_s=wall_s, cpu_s=alone.cpu_s)


def _handed_over(costs: StageCosts, chunked: StageCost, chunk: int) -> StageCost:
    """Each block pays the price of one element, and each element in it that of being put there."""
    each = costs.from_generator
    return StageCost(
        wall_s=each.wall_s / chunk + max(chunked.wall_s - each.wall_s / costs.chunk, 0.0),
        cpu_s=each.cpu_s / chunk + max(chunked.cpu_s - each.cpu_s / costs.chunk, 0.0),
    )


def produce_seconds(
    costs: StageCosts, made: Mapping[str, StageCost], config: PipelineConfig, cores: float
) -> float:
    """Seconds per example up to the batch, with the map's calls and all workers in flight."""
    wall = {name: cost.wall_s for name, cost in made.items()}
    is_apart = config.generator_workers > 0 or config.workers > 1
    apart = [wall["generator"]] if is_apart else []
    feed_s = wall["from_generator"] + (0.0 if apart else wall["generator"])
    map_s, batch_s = wall.get("map", 0.0), wall.get("batch", 0.0)
    if int(config.map_parallelism) == 1:
        return max(feed_s + map_s + batch_s, *apart, 0.0)
    mapped_s = map_s / map_speedup(costs, config)
    if costs.map_is_python:
        # A thread that computes in C++ meanwhile uses more processor time than the clock shows.
        feeds_gil = [made["from_generator"], *([] if is_apart else [made["generator"]])]
        feed_gil_s = sum(min(cost.cpu_s, cost.wall_s) for cost in feeds_gil)
        gil_s = feed_gil_s + map_s * gil_share(costs, config, cores)
        mapped_s = max(mapped_s + GIL_WAIT * feed_gil_s, gil_s)
    return max(feed_s, mapped_s, batch_s, *apart)


def gil_share(costs: StageCosts, config: PipelineConfig, cores: float) -> float:
    """Share of a Python map's time in which no other thread can run Python.

    By Amdahl's law, from how many times faster it ran on all cores.
    """
    if waits_in_threads(costs, config):
        return serial_share(costs)
    at_once = min(cores, float(costs.map_calls))
    if at_once <= 1.0:
        return 1.0
    share = (1.0 / costs.map_speedup - 1.0 / at_once) / (1.0 - 1.0 / at_once)
    return min(max(share, 0.0), 1.0)


def map_speedup(costs: StageCosts, config: PipelineConfig) -> float:
    """How many times faster the map runs with its calls in flight, by what was measured.

    With fewer calls than were measured it cannot be more than their number. Threads of its own let
    a map that waits do so as often at once as there are threads; what no thread takes off another
    one, `serial_share`, remains.
    """
    calls = float(int(config.map_parallelism))
    if not waits_in_threads(costs, config):
        return min(calls, costs.map_speedup)
    if config.thread_pool_size != UNBOUNDED:
        calls = min(calls, float(config.thread_pool_size))
    return max(1.0 / (1.0 / calls + serial_share(costs)), min(calls, costs.map_speedup))


def waits_in_threads(costs: StageCosts, config: PipelineConfig) -> bool:
    """Whether the map waits, and in threads of its own."""
    return bool(config.thread_pool_size and costs.waiting_calls)


def serial_share(costs: StageCosts) -> float:
    """Share of a waiting map's time that its calls spend one after another, whatever their number.

    By Amdahl's law, from the speed-up with as many calls as were measured.
    """
    return max(1.0 / costs.waiting_speedup - 1.0 / costs.waiting_calls, 0.0)


def step_seconds(costs: StageCosts, batch_size: int) -> float:
    """Seconds of a step; between and beyond the measured batch sizes along a straight line."""
    sizes = sorted(costs.step_s)
    times = [costs.step_s[size] for size in sizes]
    if batch_size <= sizes[-1] or len(sizes) == 1:
        return float(np.interp(batch_size, sizes, times))  # below the smallest, as the smallest
    slope = (times[-1] - times[-2]) / (sizes[-1] - sizes[-2])
    return times[-1] + max(slope, 0.0) * (batch_size - sizes[-1])
