"""Chooses the first trials: the best predicted configurations of every kind that may help. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prefetch_tuning.experiments.search.diagnosis import Bottleneck, Diagnosis
from prefetch_tuning.experiments.search.pauses import near
from prefetch_tuning.experiments.search.prediction import Predictor, Ranking
from prefetch_tuning.experiments.search.space import SearchSpace
from prefetch_tuning.objectives.objective import Objective
from prefetch_tuning.pipelines.config import UNBOUNDED, PipelineConfig

# Trials that run before the sampler's own; more of them if more kinds of structure are offered.
LEAST_FIRST, MOST_FIRST = 5, 8
# Their prefetch buffers. With a single batch ahead, the hand-over costs time that the stages' costs
# don't show. More than a few batches only take memory.
LOOK_AHEAD = (4, 16)
# Batches in the queue of a PyDataset: few, and as many as the most workers can have in flight.
QUEUES = (8, 32)

Switch = Callable[[PipelineConfig], bool]
# The features that the structure of a chain can switch on.
SWITCHES: dict[str, Switch] = {
    "blocks": lambda c: c.generator_chunk > 1,
    "map on batches": lambda c: c.vectorized_map,
    "processes": lambda c: c.generator_workers > 0,
    "threads": lambda c: c.thread_pool_size == UNBOUNDED,
    "pool": lambda c: c.thread_pool_size not in (0, UNBOUNDED),
    "one thread per op": lambda c: c.max_intra_op_parallelism > 0,
    "on device": lambda c: c.device_prefetch > 0,
    "cached": lambda c: c.cache,
    "reordered": lambda c: c.reorder,
    "workers": lambda c: c.workers > 1 and not c.use_multiprocessing,
    "worker processes": lambda c: c.workers > 1 and c.use_multiprocessing,
}
# The switches that each bottleneck calls for; they are tried first.
CALLED_FOR: dict[Bottleneck, Sequence[str]] = {
    "generator-gil": ("cached", "processes", "worker processes", "blocks"),
    "element-overhead": ("cached", "blocks", "map on batches", "processes"),
    "blocking": ("cached", "threads", "pool", "workers", "processes", "worker processes"),
    "map-cpu": ("map on batches", "one thread per op", "blocks"),
    "map-gil": ("map on batches", "threads"),
    "shared-cores": ("blocks", "map on batches", "one thread per op"),
    "device-copy": ("on device",),
    "pauses": (),
    "step-bound": (),
}


def first_trials(
    diagnosis: Diagnosis, space: SearchSpace, cores: float, goal: Objective
) -> list[PipelineConfig]:
    """Chooses the best predicted configuration and the best predicted one of every kind.

    Each switch that the space offers is on in one of them, as far as `MOST_FIRST` allows; switches
    that the bottleneck calls for come first. The best plain chain is the second at the latest, so
    trials that all fail for the same structure don't end the search before it. Any trials left
    go to the best predicted ones that differ in batch size, calls in flight or structure, so a
    wrong cost doesn't spoil all trials. For a generator that pauses, half and twice the buffer that
    bridges its pauses are tried as well.
    """
    costs = diagnosis.costs
    ranking = Ranking(goal, Predictor(costs, cores).rate, costs, cores)
    ranked = sorted(candidates(space), key=ranking.key)
    chosen = [ranked[0]]
    for switch in _in_order(diagnosis.bottleneck):
        if not any(SWITCHES[switch](config) for config in chosen):
            chosen += _first(ranked, SWITCHES[switch])
    plain = [config for config in chosen if not config.structure][:1]
    plain = plain or _first(ranked, lambda config: not config.structure)
    chosen = list(dict.fromkeys([chosen[0], *plain, *chosen]))[:MOST_FIRST]
    kinds = {kind(config, cores) for config in chosen}
    for config in ranked:
        if len(chosen) >= LEAST_FIRST:
            break
        if kind(config, cores) not in kinds:
            kinds.add(kind(config, cores))
            chosen.append(config)
    needed = space.bridging.get(chosen[0].batch_size)
    if needed:
        near_it = [chosen[0].model_copy(update={"prefetch_buffer": b}) for b in near(needed)]
        chosen = list(dict.fromkeys([chosen[0], *near_it, *chosen]))[:LEAST_FIRST]
    return chosen


def candidates(space: SearchSpace) -> Iterator[PipelineConfig]:
    """The points of a space that are worth predicting: with some prefetch, and each kind once."""
    ahead = sorted({*LOOK_AHEAD, *space.bridging.values()})
    for config in space.grid(prefetch_buffer=ahead, max_queue_size=QUEUES):
        needed = space.bridging.get(config.batch_size)
        if config.prefetch_buffer not in ((needed,) if needed else LOOK_AHEAD):
            continue  # it belongs to another batch size
        if config.workers <= 1 and config.max_queue_size in QUEUES[1:]:
            continue  # without workers there is no queue
        if not is_pointless(config):
            yield config


def is_pointless(config: PipelineConfig) -> bool:
    """Whether a configuration has something that its other settings leave without work."""
    threads = config.thread_pool_size
    if (threads or config.reorder) and config.map_parallelism == 1:
        return True  # a sequential map has no calls for the threads, and none to overtake
    if isinstance(threads, int) and threads > 2 * int(config.map_parallelism):
        return True  # most of the threads would always be idle
    return config.workers <= 1 and config.use_multiprocessing  # no one shares the work


def kind(config: PipelineConfig, cores: float) -> tuple[object, ...]:
    """What distinguishes configurations: batch size, calls or workers, and switches."""
    calls = max(int(config.map_parallelism), config.workers)
    flight = "sequential" if calls == 1 else "few" if calls <= cores else "many"
    return config.batch_size, flight, *switched_on(config)


def switched_on(config: PipelineConfig) -> tuple[str, ...]:
    """The names of the structural features that a configuration switches on."""
    return tuple(name for name, is_on in SWITCHES.items() if is_on(config))


def _in_order(bottleneck: Bottleneck) -> list[str]:
    called_for = CALLED_FOR[bottleneck]
    return [*called_for, *(name for name in SWITCHES if name not in called_for)]


def _first(ranked: Sequence[PipelineConfig], wanted: Switch) -> list[PipelineConfig]:
    """The best predicted configuration that is wanted, as a list; empty if there is none."""
    found = next((config for config in ranked if wanted(config)), None)
    return [] if found is None else [found]
