"""Computes the seconds per example of a configuration from the costs of the stages. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from prefetch_tuning.experiments.search.diagnosis import stages
from prefetch_tuning.objectives.stage_costs import StageCost, StageCosts
from prefetch_tuning.pipelines.chain.blocks import block_size
from prefetch_tuning.pipelines.config import UNBOUNDED, PipelineConfig

# Share of the shorter side's time that a buffer of one batch doesn't hide: the side that waits for
# the other is woken late. A buffer twice as large halves how often that happens.
UNCOVERED = 0.2
# Share of the generator's time under the GIL for which the calls of a Python map wait, although
# the two overlap. Seen with 64 threads: blocks of 16 gave a fifth fewer examples/s than blocks of
# 256.
GIL_WAIT = 0.5
NOTHING = StageCost(wall_s=0.0, cpu_s=0.0)


def stage_seconds(costs: StageCosts, config: PipelineConfig, cores: float) -> float:
    """Seconds per example, from the costs of the stages alone.

    With a buffer between them, the generator's thread, the map's calls and the step overlap.
    Without one, their times add up. The queue of a PyDataset's workers is also such a buffer. The
    step waits for the copy of its batch to the device, unless `device_prefetch` copies it ahead.
    No configuration gets more than all cores, and Python gets only one GIL.
    """
    step_s = step_seconds(costs, config.batch_size) / config.batch_size
    made = production(costs, config, cores)
    before_s = produce_seconds(costs, made, config, cores)
    buffer = int(config.prefetch_buffer) + (config.max_queue_size if config.workers > 1 else 0)
    copy_s = costs.device_copy.wall_s if costs.device_copy else 0.0
    if costs.device_copy and config.device_prefetch:
        # A separate thread copies batches that are ready while the step runs.
        copied_s = side_by_side(before_s, copy_s, buffer)
        seconds = side_by_side(copied_s, step_s, config.device_prefetch)
    else:
        seconds = side_by_side(before_s, copy_s + step_s, buffer)
    return max(seconds, cpu_seconds(costs, config, cores) / cores)


def cpu_seconds(costs: StageCosts, config: PipelineConfig, cores: float) -> float:
    """CPU seconds per example of all stages, including the step."""
    made_s = sum(cost.cpu_s for cost in production(costs, config, cores).values())
    step_s = step_seconds(costs, config.batch_size) / config.batch_size
    return made_s + costs.step.cpu_s * step_s / max(costs.step.wall_s, 1e-9)


def side_by_side(first_s: float, second_s: float, buffer: int) -> float:
    """Seconds of two sides with `buffer` batches between them; with 0 they alternate."""
    if buffer == 0:
        return first_s + second_s
    return max(first_s, second_s) + UNCOVERED * min(first_s, second_s) / buffer


def production(costs: StageCosts, config: PipelineConfig, cores: float) -> dict[str, StageCost]:
    """The cost per example of each stage before the step under these settings."""
    made = {str(name): cost for name, cost in stages(costs).items() if name != "step"}
    if config.generator_chunk > 1 and costs.chunked is not None:
        made["from_generator"] = _handed_over(costs, costs.chunked, config.generator_chunk)
    regrouped = costs.map is None or config.vectorized_map
    if config.generator_chunk > 1 and regrouped:
        made["batch"] = NOTHING  # the cost of handing over blocks includes regrouping them
    if config.vectorized_map and costs.batch_map is not None:
        made["map"] = costs.batch_map
    elif config.max_intra_op_parallelism == 1 and costs.single_thread_map is not None:
        made["map"] = costs.single_thread_map
    elif config.thread_pool_size and costs.waiting_cpu_s is not None:
        made["map"] = made["map"].model_copy(update={"cpu_s": costs.waiting_cpu_s})
    if config.generator_workers:
        made["generator"] = _in_shards(costs, config, cores)
    if config.cache:
        # What is left is reading them from memory, which is part of the cost of batching, and the
        # first pass of those that a training makes.
        for name in ("generator", "from_generator"):
            made[name] = _divided(made[name], costs.epochs)
    if config.workers > 1:
        made["generator"] = _by_workers(costs.generator, config, cores)
    return made


def _in_shards(costs: StageCosts, config: PipelineConfig, cores: float) -> StageCost:
    """The cost of the generator in processes, here and on the nodes of a cluster.

    Each block comes in a message. A message wakes a thread, as handing over an element does, and
    messages come one after another. Seen with 32 processes: blocks of 8 gave a third fewer
    examples/s than blocks of 32.
    """
    alone, shards = costs.generator, config.generator_workers
    wall_s = max(alone.wall_s / shards, alone.cpu_s / (cores + costs.other_cores))
    here = 1.0
    if costs.elsewhere is not None and shards > cores:
        # This host's cores are filled first. Blocks from elsewhere come through the network.
        here = min(costs.elsewhere.here, shards) / shards
        wall_s = max(wall_s, (1.0 - here) * costs.elsewhere.sending_s)
    message, size = costs.from_generator, block_size(config)
    return StageCost(
        wall_s=wall_s + message.wall_s / size, cpu_s=here * alone.cpu_s + message.cpu_s / size
    )


def _divided(cost: StageCost, passes: int | None) -> StageCost:
    """The cost of one pass as a share of so many, or of endlessly many if that is unknown."""
    if passes is None:
        return NOTHING
    share = 1.0 / max(passes, 1)
    return StageCost(wall_s=share * cost.wall_s, cpu_s=share * cost.cpu_s)


def _by_workers(alone: StageCost, config: PipelineConfig, cores: float) -> StageCost:
    """The cost of a PyDataset's batches, made by several threads or processes at once.

    Threads share one GIL, processes share the cores. Keras has at most two more batches in flight
    than its queue holds: the one that is waited for, and the one that waits for room.
    """
    at_once = min(config.workers, config.max_queue_size + 2)
    busy_s = alone.cpu_s / cores if config.use_multiprocessing else alone.cpu_s
    # If NumPy computes in its own threads, CPU time exceeds wall time.
    wall_s = min(max(alone.wall_s / at_once, busy_s), alone.wall_s)
    return StageCost(wall_s=wall_s, cpu_s=alone.cpu_s)


def _handed_over(costs: StageCosts, chunked: StageCost, chunk: int) -> StageCost:
    """The cost of one hand-over per block, plus that of putting each element into its block."""
    each = costs.from_generator
    return StageCost(
        wall_s=each.wall_s / chunk + max(chunked.wall_s - each.wall_s / costs.chunk, 0.0),
        cpu_s=each.cpu_s / chunk + max(chunked.cpu_s - each.cpu_s / costs.chunk, 0.0),
    )


def produce_seconds(
    costs: StageCosts, made: Mapping[str, StageCost], config: PipelineConfig, cores: float
) -> float:
    """Seconds per example up to the batch, with all map calls and workers in flight."""
    wall = {name: cost.wall_s for name, cost in made.items()}
    is_apart = config.generator_workers > 0 or config.workers > 1
    apart = [wall["generator"]] if is_apart else []
    feed_s = wall["from_generator"] + (0.0 if apart else wall["generator"])
    map_s, batch_s = wall.get("map", 0.0), wall.get("batch", 0.0)
    if int(config.map_parallelism) == 1:
        return max(feed_s + map_s + batch_s, *apart, 0.0)
    mapped_s = map_s / map_speedup(costs, config)
    if costs.map_is_python:
        # CPU time exceeds wall time if a thread computes in C++ meanwhile, but the GIL is held for
        # no longer than the wall time.
        feeds_gil = [made["from_generator"], *([] if is_apart else [made["generator"]])]
        feed_gil_s = sum(min(cost.cpu_s, cost.wall_s) for cost in feeds_gil)
        gil_s = feed_gil_s + map_s * gil_share(costs, config, cores)
        mapped_s = max(mapped_s + GIL_WAIT * feed_gil_s, gil_s)
    return max(feed_s, mapped_s, batch_s, *apart)


def gil_share(costs: StageCosts, config: PipelineConfig, cores: float) -> float:
    """Share of a Python map's time in which no other thread can run Python.

    By Amdahl's law, from the map's speed-up on all cores.
    """
    if waits_in_threads(costs, config):
        return serial_share(costs)
    at_once = min(cores, float(costs.map_calls))
    if at_once <= 1.0:
        return 1.0
    share = (1.0 / costs.map_speedup - 1.0 / at_once) / (1.0 - 1.0 / at_once)
    return min(max(share, 0.0), 1.0)


def map_speedup(costs: StageCosts, config: PipelineConfig) -> float:
    """How many times faster the map runs with its calls in flight, from what was measured.

    The speed-up is never more than the number of calls. A map that waits in its own threads can
    have as many waiting calls as it has threads. What remains is `serial_share`, the time that
    calls spend one after another.
    """
    calls = float(int(config.map_parallelism))
    if not waits_in_threads(costs, config):
        return min(calls, costs.map_speedup)
    if config.thread_pool_size != UNBOUNDED:
        calls = min(calls, float(config.thread_pool_size))
    return max(1.0 / (1.0 / calls + serial_share(costs)), min(calls, costs.map_speedup))


def waits_in_threads(costs: StageCosts, config: PipelineConfig) -> bool:
    """Whether the map waits, and has its own threads to wait in."""
    return bool(config.thread_pool_size and costs.waiting_calls)


def serial_share(costs: StageCosts) -> float:
    """Share of a waiting map's time that its calls, however many, spend one after another.

    By Amdahl's law, from the speed-up with the number of calls that was measured.
    """
    return max(1.0 / costs.waiting_speedup - 1.0 / costs.waiting_calls, 0.0)


def step_seconds(costs: StageCosts, batch_size: int) -> float:
    """Seconds per step, linear between and above the measured batch sizes, constant below."""
    if costs.emulated is not None:
        return costs.emulated.seconds(batch_size)
    sizes = sorted(costs.step_s)
    times = [costs.step_s[size] for size in sizes]
    if batch_size <= sizes[-1] or len(sizes) == 1:
        return float(np.interp(batch_size, sizes, times))  # below the smallest size: its time
    slope = (times[-1] - times[-2]) / (sizes[-1] - sizes[-2])
    return times[-1] + max(slope, 0.0) * (batch_size - sizes[-1])
