"""The rate that the cost of its stages predicts for a configuration. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from experiments.search.diagnosis import stages
from objectives.measurement import LoopCost, StageCost, StageCosts
from pipelines.config import UNBOUNDED, PipelineConfig

# Share of the shorter side's time that a single buffered batch leaves uncovered: whoever waits for
# the other is woken late, and twice the buffer halves how often that happens.
UNCOVERED = 0.2
NOTHING = StageCost(wall_s=0.0, cpu_s=0.0)
Traits = tuple[bool, bool, bool]
# How much each of them matters for how alike two loops are.
WEIGHTS = (4, 2, 1)


class Predictor:
    """Predicts rates from the costs of a pipeline's stages, by the slowest of what overlaps.

    What threads that share a GIL and the cores cost each other cannot be seen in stages that run
    alone. It is inferred from the loops that were measured whole: as a factor at the largest batch,
    with and without parallel map calls, threads and blocks, and as a price of each batch from the
    smallest.
    """

    def __init__(self, costs: StageCosts, cores: float) -> None:
        self._costs = costs
        self._cores = cores
        self._largest, self._smallest = max(costs.step_s), min(costs.step_s)
        self._factors = [self._measured_over_expected(loop) for loop in costs.loops]
        self._batch_s = self._price_of_a_batch()

    def rate(self, config: PipelineConfig) -> float:
        """Examples/s of a configuration without AUTOTUNE."""
        seconds = self._factor(self._largest, config)
        seconds *= stage_seconds(self._costs, config, self._cores)
        more = max(1.0 / config.batch_size - 1.0 / self._largest, 0.0)
        return 1.0 / (seconds + self._batch_s * more)

    def _price_of_a_batch(self) -> float:
        """Seconds that each batch costs beyond its examples."""
        if self._smallest == self._largest:
            return 0.0
        plain = PipelineConfig(batch_size=self._smallest, prefetch_buffer=4, map_parallelism=1)
        small = self._factor(self._smallest, plain) - self._factor(self._largest, plain)
        at_smallest = stage_seconds(self._costs, plain, self._cores)
        return max(small, 0.0) * at_smallest / (1.0 / self._smallest - 1.0 / self._largest)

    def _measured_over_expected(self, loop: LoopCost) -> tuple[int, Traits, float]:
        config = PipelineConfig.model_validate(loop.model_dump(exclude={"wall_s"}))
        expected_s = stage_seconds(self._costs, config, self._cores)
        return loop.batch_size, traits(config), loop.wall_s / expected_s

    def _factor(self, batch_size: int, like: PipelineConfig) -> float:
        """Measured over expected time of the loop most like these settings; 1 if there is none.

        Of loops with a parallel map one stands for all: how the map scales is in its cost. So does
        one with blocks, and one with threads of their own for a map that waits.
        """
        wanted, best, most = traits(like), 1.0, -1
        for size, own, factor in self._factors:
            # The price of handing over is the largest; a loop of the other kind tells nothing.
            if size != batch_size or own[0] != wanted[0]:
                continue
            alike = sum(weight for weight, a, b in zip(WEIGHTS, own, wanted, strict=True) if a == b)
            if alike > most:
                best, most = factor, alike
        return best


def predict(costs: StageCosts, config: PipelineConfig, cores: float) -> float:
    """Examples/s of a single configuration; many of a pipeline want one `Predictor`."""
    return Predictor(costs, cores).rate(config)


def traits(config: PipelineConfig) -> Traits:
    """What tells loops apart: blocks, threads of their own, calls in flight."""
    threads = bool(config.thread_pool_size)
    return config.generator_chunk > 1, threads, int(config.map_parallelism) > 1


def stage_seconds(costs: StageCosts, config: PipelineConfig, cores: float) -> float:
    """Seconds per example by the stages' own costs.

    The generator's thread, the map's calls and the step each take their own time when a buffer
    lies between them; without one the times add up. The queue of a PyDataset's workers is such a
    buffer, too. No configuration gets more than all cores.
    """
    step_s = step_seconds(costs, config.batch_size) / config.batch_size
    made = production(costs, config, cores)
    before_s = produce_seconds(costs, made, config)
    buffer = int(config.prefetch_buffer) + (config.max_queue_size if config.workers > 1 else 0)
    if buffer == 0:
        seconds = before_s + step_s
    else:
        seconds = max(before_s, step_s) + UNCOVERED * min(before_s, step_s) / buffer
    cpu_s = sum(cost.cpu_s for cost in made.values())
    cpu_s += costs.step.cpu_s * step_s / max(costs.step.wall_s, 1e-9)
    return max(seconds, cpu_s / cores)


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
        made["generator"] = StageCost(wall_s=wall_s, cpu_s=alone.cpu_s)
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
    costs: StageCosts, made: Mapping[str, StageCost], config: PipelineConfig
) -> float:
    """Seconds per example up to the batch, with the map's calls and all workers in flight."""
    calls = int(config.map_parallelism)
    wall = {name: cost.wall_s for name, cost in made.items()}
    is_apart = config.generator_workers > 0 or config.workers > 1
    apart = [wall["generator"]] if is_apart else []
    feed_s = wall["from_generator"] + (0.0 if apart else wall["generator"])
    map_s, batch_s = wall.get("map", 0.0), wall.get("batch", 0.0)
    if calls == 1:
        return max(feed_s + map_s + batch_s, *apart, 0.0)
    return max(feed_s, map_s / map_speedup(costs, config), batch_s, *apart)


def map_speedup(costs: StageCosts, config: PipelineConfig) -> float:
    """How many times faster the map runs with its calls in flight, by what was measured.

    With fewer calls than were measured it cannot be more than their number. A pool of threads lets
    a map that waits do so as often at once as it has threads.
    """
    calls = float(int(config.map_parallelism))
    if not config.thread_pool_size or not costs.waiting_calls:
        return min(calls, costs.map_speedup)
    threads = calls if config.thread_pool_size == UNBOUNDED else float(config.thread_pool_size)
    return min(calls, threads, max(costs.waiting_speedup, costs.map_speedup))


def step_seconds(costs: StageCosts, batch_size: int) -> float:
    """Seconds of a step; between and beyond the measured batch sizes along a straight line."""
    sizes = sorted(costs.step_s)
    times = [costs.step_s[size] for size in sizes]
    if batch_size <= sizes[-1] or len(sizes) == 1:
        return float(np.interp(batch_size, sizes, times))  # below the smallest, as the smallest
    slope = (times[-1] - times[-2]) / (sizes[-1] - sizes[-2])
    return times[-1] + max(slope, 0.0) * (batch_size - sizes[-1])


def relative_error(predicted: float, measured: float) -> float:
    """How far a prediction was off, as a share of what was measured; above 0 is too high."""
    return predicted / measured - 1.0


def median_error(pairs: Iterable[tuple[float, float]]) -> float | None:
    """Median size of the error over (predicted, measured); None without any."""
    errors = [abs(relative_error(predicted, measured)) for predicted, measured in pairs]
    return float(np.median(errors)) if errors else None
