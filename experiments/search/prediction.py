"""What the cost of its stages lets one expect of a configuration, and what to try first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from experiments.search.diagnosis import stages
from experiments.search.space import SearchSpace
from objectives.measurement import StageCost, StageCosts
from pipelines.config import PipelineConfig

# Trials that are run ahead of the sampler's own.
WARM_START = 5
# Their buffers. A single batch ahead loses to the hand-over what the costs do not show; more than
# some batches only hold memory.
LOOK_AHEAD = (4, 16)
# Predictions closer than this are equal, so the leaner configuration goes first.
EQUAL_SHARE = 0.03
# Share of the shorter side's time that a single buffered batch leaves uncovered: whoever waits for
# the other is woken late, and twice the buffer halves how often that happens.
UNCOVERED = 0.2
# Blocks on their way at once, and what a process holds, in examples: to rank by what is held.
BLOCKS_HELD, PROCESS_EXAMPLES = 3, 1_000
NOTHING = StageCost(wall_s=0.0, cpu_s=0.0)


def predict(costs: StageCosts, config: PipelineConfig, cores: int) -> float:
    """Examples/s of a pinned configuration, by the slowest of what runs at the same time.

    What threads that share a GIL and the cores cost each other cannot be seen in stages that run
    alone. It is read off the loops that were measured whole: as a factor at the largest batch, with
    and without parallel map calls and blocks, and as a price of each batch from the smallest.
    """
    largest, smallest = max(costs.step_s), min(costs.step_s)
    seconds = _factor(costs, largest, config, cores) * stage_seconds(costs, config, cores)
    if smallest < largest:
        plain = _plain(smallest)
        small = _factor(costs, smallest, plain, cores) - _factor(costs, largest, plain, cores)
        at_smallest = stage_seconds(costs, plain, cores)
        batch_s = max(small, 0.0) * at_smallest / (1.0 / smallest - 1.0 / largest)
        seconds += batch_s * max(1.0 / config.batch_size - 1.0 / largest, 0.0)
    return 1.0 / seconds


def stage_seconds(costs: StageCosts, config: PipelineConfig, cores: int) -> float:
    """Seconds per example by the stages' own costs.

    The generator's thread, the map's calls and the step each take their own time when a buffer
    lies between them; without one the times add up. No configuration gets more than all cores.
    """
    step_s = step_seconds(costs, config.batch_size) / config.batch_size
    made = production(costs, config, cores)
    before_s = produce_seconds(costs, made, config)
    buffer = int(config.prefetch_buffer)
    if buffer == 0:
        seconds = before_s + step_s
    else:
        seconds = max(before_s, step_s) + UNCOVERED * min(before_s, step_s) / buffer
    cpu_s = sum(cost.cpu_s for cost in made.values())
    cpu_s += costs.step.cpu_s * step_s / max(costs.step.wall_s, 1e-9)
    return max(seconds, cpu_s / cores)


def production(costs: StageCosts, config: PipelineConfig, cores: int) -> dict[str, StageCost]:
    """What each stage before the step costs an example under these settings."""
    made = {str(name): cost for name, cost in stages(costs).items() if name != "step"}
    if config.generator_chunk > 1 and costs.chunked is not None:
        made["from_generator"] = _handed_over(costs, costs.chunked, config.generator_chunk)
    regrouped = costs.map is None or config.vectorized_map
    if config.generator_chunk > 1 and regrouped:
        made["batch"] = NOTHING  # regrouping the blocks is part of handing them over
    if config.vectorized_map and costs.batch_map is not None:
        made["map"] = costs.batch_map
    if config.generator_workers:
        alone = costs.generator
        wall_s = max(alone.wall_s / config.generator_workers, alone.cpu_s / cores)
        made["generator"] = StageCost(wall_s=wall_s, cpu_s=alone.cpu_s)
    return made


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
    """Seconds per example up to the batch, with the map's calls and the processes in flight."""
    calls = int(config.map_parallelism)
    wall = {name: cost.wall_s for name, cost in made.items()}
    apart = [wall["generator"]] if config.generator_workers else []
    feed_s = wall["from_generator"] + (0.0 if apart else wall["generator"])
    map_s = wall.get("map", 0.0)
    if calls == 1:
        return max(feed_s + map_s + wall["batch"], *apart, 0.0)
    # Measured with `map_calls` in flight; with fewer it cannot be more than their number.
    speedup = min(float(calls), costs.map_speedup)
    return max(feed_s, map_s / speedup, wall["batch"], *apart)


def step_seconds(costs: StageCosts, batch_size: int) -> float:
    """Seconds of a step; between and beyond the measured batch sizes along a straight line."""
    sizes = sorted(costs.step_s)
    times = [costs.step_s[size] for size in sizes]
    if batch_size <= sizes[-1] or len(sizes) == 1:
        return float(np.interp(batch_size, sizes, times))  # below the smallest, as the smallest
    slope = (times[-1] - times[-2]) / (sizes[-1] - sizes[-2])
    return times[-1] + max(slope, 0.0) * (batch_size - sizes[-1])


def warm_start(costs: StageCosts, space: SearchSpace, cores: int) -> list[PipelineConfig]:
    """The configurations to try first: the best predicted ones that differ in kind.

    Of those that share the batch size, the kind of map (sequential, a few calls, many) and the
    structure only one is taken, so that a wrong cost does not spoil all of them.
    """
    tried = (config for config in space.grid() if config.prefetch_buffer in LOOK_AHEAD)
    ranked = sorted(tried, key=lambda config: _rank(costs, config, cores))
    chosen: dict[tuple[object, ...], PipelineConfig] = {}
    for config in ranked:
        chosen.setdefault(_kind(config, cores), config)
    best = list(chosen.values())[:WARM_START]
    plain = next((config for config in ranked if not config.structure), None)
    if plain is not None and all(config.structure for config in best):
        best[-1] = plain  # what is gained over the plain chain is to be known, too
    return best


def _kind(config: PipelineConfig, cores: int) -> tuple[object, ...]:
    calls = int(config.map_parallelism)
    kind = "sequential" if calls == 1 else "few" if calls <= cores else "many"
    structure = (config.generator_chunk > 1, config.vectorized_map, config.generator_workers > 0)
    return config.batch_size, kind, *structure


def _factor(costs: StageCosts, batch_size: int, like: PipelineConfig, cores: int) -> float:
    """Measured over expected time of the loop that is most like these settings; 1 if there is none.

    Of loops with a parallel map one stands for all: how the map scales is in its cost. With blocks
    one loop stands for all.
    """
    chunked, parallel = like.generator_chunk > 1, int(like.map_parallelism) > 1
    for loop in costs.loops:
        same = (loop.map_parallelism > 1) == parallel or chunked
        if loop.batch_size == batch_size and (loop.generator_chunk > 1) == chunked and same:
            config = PipelineConfig.model_validate(loop.model_dump(exclude={"wall_s"}))
            return loop.wall_s / stage_seconds(costs, config, cores)
    return 1.0


def _plain(batch_size: int) -> PipelineConfig:
    return PipelineConfig(batch_size=batch_size, prefetch_buffer=4, map_parallelism=1)


def relative_error(predicted: float, measured: float) -> float:
    """How far a prediction was off, as a share of what was measured; above 0 is too high."""
    return predicted / measured - 1.0


def median_error(pairs: Iterable[tuple[float, float]]) -> float | None:
    """Median size of the error over (predicted, measured); None without any."""
    errors = [abs(relative_error(predicted, measured)) for predicted, measured in pairs]
    return float(np.median(errors)) if errors else None


def _rank(costs: StageCosts, config: PipelineConfig, cores: int) -> tuple[int, int, int]:
    """Sorts by predicted rate in steps of `EQUAL_SHARE`, then by what the buffers hold."""
    step = -int(np.log(predict(costs, config, cores)) / np.log1p(EQUAL_SHARE))
    held = config.batch_size * int(config.prefetch_buffer) + int(config.map_parallelism)
    held += config.generator_chunk * BLOCKS_HELD + config.generator_workers * PROCESS_EXAMPLES
    return step, held, config.batch_size
