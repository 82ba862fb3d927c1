"""Which configurations to try first: the best predicted ones, of every kind that may help. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from prefetch_tuning.experiments.search.diagnosis import Bottleneck, Diagnosis
from prefetch_tuning.experiments.search.prediction import Predictor
from prefetch_tuning.experiments.search.space import SearchSpace
from prefetch_tuning.pipelines.config import UNBOUNDED, PipelineConfig

# Trials that are run ahead of the sampler's own; more where more kinds of structure are offered.
LEAST_FIRST, MOST_FIRST = 5, 8
# Their buffers. A single batch ahead loses to the hand-over what the costs do not show; more than
# some batches only hold memory.
LOOK_AHEAD = (4, 16)
# Batches in the queue of a PyDataset: few, and as many as the most workers can have under way.
QUEUES = (8, 32)
# Predictions closer than this are equal, so the leaner configuration goes first.
EQUAL_SHARE = 0.03
# Blocks on their way at once, and what a process holds, in examples: to rank by what is held.
BLOCKS_HELD, PROCESS_EXAMPLES = 3, 1_000

Switch = Callable[[PipelineConfig], bool]
# Examples/s that are predicted for a configuration.
RateOf = Callable[[PipelineConfig], float]
# What can be switched on in the structure of a chain.
SWITCHES: dict[str, Switch] = {
    "blocks": lambda c: c.generator_chunk > 1,
    "map on batches": lambda c: c.vectorized_map,
    "processes": lambda c: c.generator_workers > 0,
    "threads": lambda c: c.thread_pool_size == UNBOUNDED,
    "pool": lambda c: c.thread_pool_size not in (0, UNBOUNDED),
    "one thread per op": lambda c: c.max_intra_op_parallelism > 0,
    "on device": lambda c: c.device_prefetch > 0,
    "workers": lambda c: c.workers > 1 and not c.use_multiprocessing,
    "worker processes": lambda c: c.workers > 1 and c.use_multiprocessing,
}
# What each bottleneck calls for comes first.
CALLED_FOR: dict[Bottleneck, Sequence[str]] = {
    "generator-gil": ("processes", "worker processes", "blocks"),
    "element-overhead": ("blocks", "map on batches", "processes"),
    "blocking": ("threads", "pool", "workers", "processes", "worker processes"),
    "map-cpu": ("map on batches", "one thread per op", "blocks"),
    "map-gil": ("map on batches", "threads"),
    "shared-cores": ("blocks", "map on batches", "one thread per op"),
    "device-copy": ("on device",),
    "step-bound": (),
}


def first_trials(diagnosis: Diagnosis, space: SearchSpace, cores: float) -> list[PipelineConfig]:
    """The best predicted configuration, and the best predicted one of every kind.

    Every switch that the space offers is on in one of them, those that the bottleneck calls for
    first, and the best plain chain is among them. What is left goes to the best predicted ones that
    differ in batch size, calls in flight or structure, so that a wrong cost does not spoil all.
    """
    predictor = Predictor(diagnosis.costs, cores)
    ranked = sorted(candidates(space), key=lambda c: rank_by(predictor.rate, c))
    chosen = [ranked[0]]
    for switch in _in_order(diagnosis.bottleneck):
        if not any(SWITCHES[switch](config) for config in chosen):
            chosen += _first(ranked, SWITCHES[switch])
    chosen = chosen[: MOST_FIRST - 1]
    if all(config.structure for config in chosen):
        chosen += _first(ranked, lambda config: not config.structure)
    kinds = {kind(config, cores) for config in chosen}
    for config in ranked:
        if len(chosen) >= LEAST_FIRST:
            break
        if kind(config, cores) not in kinds:
            kinds.add(kind(config, cores))
            chosen.append(config)
    return chosen


def candidates(space: SearchSpace) -> Iterator[PipelineConfig]:
    """The points of a space that are worth predicting: with some look-ahead, each kind once."""
    for config in space.grid(prefetch_buffer=LOOK_AHEAD, max_queue_size=QUEUES):
        threads = config.thread_pool_size
        if threads and config.map_parallelism == 1:
            continue  # a sequential map has no calls for the threads
        if isinstance(threads, int) and threads > 2 * int(config.map_parallelism):
            continue  # most of them would never have anything to do
        if config.workers <= 1 and config.use_multiprocessing:
            continue  # predicted as without a process: there is nobody to share the work with
        if config.workers <= 1 and config.max_queue_size in QUEUES[1:]:
            continue  # without workers there is no queue
        yield config


def kind(config: PipelineConfig, cores: float) -> tuple[object, ...]:
    """What tells configurations apart: batch size, calls or workers, and what is switched on."""
    calls = max(int(config.map_parallelism), config.workers)
    flight = "sequential" if calls == 1 else "few" if calls <= cores else "many"
    return config.batch_size, flight, *switched_on(config)


def switched_on(config: PipelineConfig) -> tuple[str, ...]:
    """The names of what a configuration switches on in the structure of the chain."""
    return tuple(name for name, is_on in SWITCHES.items() if is_on(config))


def rank_by(rate_of: RateOf, config: PipelineConfig) -> tuple[int, int, int, int]:
    """Sorts by predicted rate in steps of `EQUAL_SHARE`, then by what is left of it, then by size.

    What is left is the rate with half of the map's calls: just enough of them is not enough where
    they help less than predicted. On 16 cores before a GPU the leanest of equal predictions took 2
    calls and reached half of its prediction; with AUTOTUNE's calls the same chain reached all of
    it. Size is what the buffers hold.
    """
    calls = max(int(config.map_parallelism) // 2, 1)
    fewer = config.model_copy(update={"map_parallelism": calls})
    held = config.batch_size * int(config.prefetch_buffer) + int(config.map_parallelism)
    held += config.generator_chunk * BLOCKS_HELD + config.generator_workers * PROCESS_EXAMPLES
    if isinstance(config.thread_pool_size, int):
        held += config.thread_pool_size
    if config.workers > 1:
        held += config.batch_size * config.max_queue_size
        held += config.workers * (PROCESS_EXAMPLES if config.use_multiprocessing else 1)
    return _step(rate_of(config)), _step(rate_of(fewer)), held, config.batch_size


def _step(rate: float) -> int:
    """The number of a rate's step, the fastest first."""
    return -int(np.log(rate) / np.log1p(EQUAL_SHARE))


def _in_order(bottleneck: Bottleneck) -> list[str]:
    called_for = CALLED_FOR[bottleneck]
    return [*called_for, *(name for name in SWITCHES if name not in called_for)]


def _first(ranked: Sequence[PipelineConfig], wanted: Switch) -> list[PipelineConfig]:
    """The best predicted one that is wanted, if the space has such a one."""
    found = next((config for config in ranked if wanted(config)), None)
    return [] if found is None else [found]
