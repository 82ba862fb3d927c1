"""Predicts the rate of a configuration from the costs of the stages, and ranks by it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from prefetch_tuning.experiments.search.stage_seconds import (
    cpu_seconds,
    stage_seconds,
    step_seconds,
)
from prefetch_tuning.objectives.objective import Objective, Reading
from prefetch_tuning.objectives.stage_costs import LoopCost, StageCosts
from prefetch_tuning.pipelines.config import PipelineConfig

# Gives the predicted examples/s of a configuration.
RateOf = Callable[[PipelineConfig], float]
Traits = tuple[bool, bool, bool]
# How much each trait counts in how similar two loops are.
WEIGHTS = (4, 2, 1)
# Predictions closer than this count as equal, so the leaner configuration goes first.
EQUAL_SHARE = 0.03
# A target must be exceeded by this share, because predictions are off by about as much.
RESERVE = 0.05
# To rank by the examples held in memory: blocks in flight at once, and examples per process.
BLOCKS_HELD, PROCESS_EXAMPLES = 3, 1_000


class Predictor:
    """Predicts rates from the costs of a pipeline's stages: the slowest overlapping stage counts.

    Threads that share a GIL and the cores cost each other time, which stages that run alone don't
    show. That time is inferred from the loops that were measured whole: as a factor at the largest
    batch, with and without parallel map calls, threads and blocks, and as a price per batch from
    the smallest.
    """

    def __init__(self, costs: StageCosts, cores: float) -> None:
        self._costs = costs
        self._cores = cores
        self._largest, self._smallest = max(costs.step_s), min(costs.step_s)
        self._factors = [self._measured_over_expected(loop) for loop in costs.loops]
        self._batch_s = self._price_of_a_batch()

    def rate(self, config: PipelineConfig) -> float:
        """Predicted examples/s of a configuration without AUTOTUNE."""
        seconds = self._factor(self._largest, config)
        seconds *= stage_seconds(self._costs, config, self._cores)
        more = max(1.0 / config.batch_size - 1.0 / self._largest, 0.0)
        return 1.0 / (seconds + self._batch_s * more)

    def _price_of_a_batch(self) -> float:
        """Seconds that each batch costs in addition to its examples."""
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
        """Measured over expected time of the loop most similar to `like`; 1 if there is none.

        One loop with a parallel map represents all of them, because the map's cost already has how
        it scales. So does one with blocks, and one with separate threads for a map that waits.
        """
        wanted, best, most = traits(like), 1.0, -1
        for size, own, factor in self._factors:
            # The per-element overhead costs most, so a loop with blocks says nothing about one
            # without, or the other way round.
            if size != batch_size or own[0] != wanted[0]:
                continue
            alike = sum(weight for weight, a, b in zip(WEIGHTS, own, wanted, strict=True) if a == b)
            if alike > most:
                best, most = factor, alike
        return best


def predict(costs: StageCosts, config: PipelineConfig, cores: float) -> float:
    """Predicted examples/s of one configuration; for several, make one `Predictor`."""
    return Predictor(costs, cores).rate(config)


class Ranking:
    """Sorts configurations by their predictions, best first, as the study's objective wants it."""

    def __init__(self, goal: Objective, rate_of: RateOf, costs: StageCosts, cores: float) -> None:
        self._goal = goal
        self._rate_of = rate_of
        self._costs = costs
        self._cores = cores

    def key(self, config: PipelineConfig) -> tuple[float, ...]:
        """Sort key; with a target, those that reach it come first, by their values."""
        if self._goal.target is None:
            return rank_by(self._rate_of, config)
        reading = self.reading(config)
        less = replace(reading, examples_per_s=reading.examples_per_s * (1.0 - RESERVE))
        if self._goal.shortfall(less) > 0.0:
            return 1, *rank_by(self._rate_of, config)
        level = self._goal.level(self._goal.value(reading))
        return 0, level, reading.processes, examples_held(config)

    def reading(self, config: PipelineConfig) -> Reading:
        """What an objective judges, as predicted; memory isn't."""
        step_s = step_seconds(self._costs, config.batch_size) / config.batch_size
        cpu_s = cpu_seconds(self._costs, config, self._cores)
        return Reading(config, self._rate_of(config), cpu_s, 1.0 / max(step_s, 1e-12))


def rank_by(rate_of: RateOf, config: PipelineConfig) -> tuple[int, int, int, int]:
    """Sort key: the predicted rate in steps of `EQUAL_SHARE`, then its reserve, then the size.

    The reserve is the rate with half of the map's calls: barely enough calls are too few if they
    help less than predicted. On 16 cores before a GPU, the leanest of equal predictions took 2
    calls and reached half of its prediction. With AUTOTUNE's calls the same chain reached all of
    it.
    """
    calls = max(int(config.map_parallelism) // 2, 1)
    fewer = config.model_copy(update={"map_parallelism": calls})
    rate, reserve = (_step(rate_of(c)) for c in (config, fewer))
    return -rate, -reserve, examples_held(config), config.batch_size


def examples_held(config: PipelineConfig) -> int:
    """About the number of examples that the buffers hold."""
    held = config.batch_size * int(config.prefetch_buffer) + int(config.map_parallelism)
    held += config.generator_chunk * BLOCKS_HELD + config.generator_workers * PROCESS_EXAMPLES
    if isinstance(config.thread_pool_size, int):
        held += config.thread_pool_size
    if config.workers > 1:
        held += config.batch_size * config.max_queue_size
        held += config.workers * (PROCESS_EXAMPLES if config.use_multiprocessing else 1)
    return held


def _step(rate: float) -> int:
    """The number of a rate's step on a log scale."""
    return int(np.log(rate) / np.log1p(EQUAL_SHARE))


def traits(config: PipelineConfig) -> Traits:
    """What distinguishes loops: blocks, separate threads, several calls in flight."""
    threads = bool(config.thread_pool_size)
    return config.generator_chunk > 1, threads, int(config.map_parallelism) > 1


def relative_error(predicted: float, measured: float) -> float:
    """The prediction's error as a share of the measured rate; above 0 is too high."""
    return predicted / measured - 1.0


def median_error(pairs: Iterable[tuple[float, float]]) -> float | None:
    """Median absolute error over pairs of (predicted, measured); None if there are none."""
    errors = [abs(relative_error(predicted, measured)) for predicted, measured in pairs]
    return float(np.median(errors)) if errors else None
