"""Chooses the axes to search for a pipeline, and gives the reason for each one left out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from prefetch_tuning.experiments.search.diagnosis import (
    Bottleneck,
    Diagnosis,
    copy_share,
    producer_s,
    stages,
)
from prefetch_tuning.experiments.search.pauses import near
from prefetch_tuning.experiments.search.space import Axis, SearchSpace
from prefetch_tuning.experiments.settings import Options
from prefetch_tuning.objectives.machine.process_tree import MIB
from prefetch_tuning.objectives.pipeline_info import PipelineInfo
from prefetch_tuning.objectives.stage_costs import WAITING_CALLS, OtherNodes, StageCosts
from prefetch_tuning.pipelines.config import (
    MAX_GENERATOR_CHUNK,
    MAX_PROCESSES,
    STRUCTURE,
    UNBOUNDED,
)

# A buffer of more than 64 batches has never been seen to help, unless the generator pauses for
# longer. The replay of its arrivals then says which buffers to try.
MAX_PREFETCH = 64
# Prefetch buffers up to this are tried in any case.
SMALL_BUFFER = 4
# A map that computes gains from somewhat more calls in flight than there are cores. A map that
# waits gains from as many as can wait at once (`WAITING_CALLS`).
CALLS_PER_CORE = 4
LEAST_CALLS = 8
# A stage that takes less than this share of the pipeline's time is not worth an axis.
WORTH = 0.05
# Each process costs memory and a core, so the generator must take a larger share.
WORTH_PROCESSES = 0.15
# The most bytes in a chunk. Several chunks are in flight at once.
CHUNK_BYTES = 16 * 2**20
# A block is handed over when all of its elements are there. A generator of 2 ms per element with
# blocks of 693 made the first batch wait for 1.4 s, and batches of 16 came in bursts.
BLOCK_S = 0.05
# Bottlenecks that no change of structure helps against, and how a left-out axis says so.
BOUND: dict[Bottleneck, str] = {
    "step-bound": "the training step is the bottleneck",
    "pauses": "the generator's pauses are the bottleneck",
}
ORDER = "it changes the order of the elements, which --allow-reorder permits"
WAITING_PROCESSES = (0, 4, 8, 16, 32)
# If the cheapest settings that are fast enough are wanted, and not the fastest.
FEW_PROCESSES = (0, 1, 2, 3, 4, 6, 8, 16, 32)
WAITING_THREADS = (0, 16, 64, UNBOUNDED)
# For a PyDataset that waits: up to as many as the processes of a generator that waits.
WAITING_WORKERS = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Offer:
    """The space to search, and the structural axes left out of it, each with the reason."""

    space: SearchSpace
    left_out: dict[str, str]


def offer(info: PipelineInfo, options: Options, diagnosis: Diagnosis | None, cores: float) -> Offer:
    """Chooses the axes that a pipeline supports and that its diagnosis finds worth searching.

    Args:
        info: the pipeline.
        options: whether the structure is searched, and the batch size if one was given.
        diagnosis: None offers every axis that the pipeline supports.
        cores: cores of the machine that measures.
    """
    whole = max(1, int(cores))
    sizes = _fitting(info, diagnosis)
    if options.batch_size is not None:
        sizes = (options.batch_size,)
    bridging = _bridging(info, options, diagnosis, sizes)
    highest = max((near(buffer)[1] for buffer in bridging.values()), default=0)
    axes = [Axis.range("prefetch_buffer", max(MAX_PREFETCH, highest))]
    if "map_parallelism" in info.axes:
        axes.append(Axis.range("map_parallelism", _most_calls(diagnosis, whole)))
    axes += [axis for axis in _of_a_py_dataset(diagnosis, whole) if axis.name in info.axes]
    left_out: dict[str, str] = {}
    for name in STRUCTURE:
        reason = _why_not(name, info, options, diagnosis)
        if reason is None:
            axes.append(_structural(name, info, options, diagnosis, whole))
        else:
            left_out[name] = reason
    space = SearchSpace(sizes, tuple(axes), _most_in_block(diagnosis), bridging)
    return Offer(space, left_out)


def _bridging(
    info: PipelineInfo, options: Options, diagnosis: Diagnosis | None, sizes: Sequence[int]
) -> dict[int, int]:
    """The buffer that bridges the generator's pauses and fits into memory, by batch size.

    It is empty unless the pauses are the bottleneck. Otherwise the buffer is one axis among others.
    """
    if diagnosis is None or diagnosis.bottleneck != "pauses" or diagnosis.pauses is None:
        return {}
    limit = options.memory_limit_mib
    found = {size: diagnosis.pauses.bridging.get(size, 0) for size in sizes}
    if limit is not None and info.element_bytes:
        found = {
            size: min(buffer, int(limit * MIB / (info.element_bytes * size)))
            for size, buffer in found.items()
        }
    # A buffer that is small anyway needs no range of its own.
    return {size: buffer for size, buffer in found.items() if buffer > SMALL_BUFFER}


def _most_in_block(diagnosis: Diagnosis | None) -> int | None:
    """The elements that one process makes in `BLOCK_S`."""
    if diagnosis is None:
        return None
    return int(BLOCK_S / max(diagnosis.costs.generator.wall_s, 1e-9))


def _fitting(info: PipelineInfo, diagnosis: Diagnosis | None) -> tuple[int, ...]:
    """The batch sizes whose step fitted into the device's memory."""
    if diagnosis is None or diagnosis.costs.py_dataset:  # a PyDataset sets its own batch size
        return tuple(info.batch_sizes)
    largest = max(diagnosis.costs.step_s)
    return tuple(size for size in info.batch_sizes if size <= largest) or tuple(info.batch_sizes)


def is_bound(diagnosis: Diagnosis, options: Options) -> bool:
    """Whether no structure can help: a busy step can't be faster, but it can be fed for less."""
    if diagnosis.bottleneck == "step-bound" and options.goal.target is not None:
        return False
    return diagnosis.bottleneck in BOUND


def _why_not(
    name: str, info: PipelineInfo, options: Options, diagnosis: Diagnosis | None
) -> str | None:
    if options.axes == "basic":
        return "only the basic axes were requested"
    against = info.not_offered if options.allow_reorder else {"reorder": ORDER, **info.not_offered}
    if name in against:
        return against[name]
    if diagnosis is None:
        return None
    if name == "device_prefetch" and diagnosis.costs.device_copy is not None:
        # This applies to every bottleneck: without the axis, the step waits for the copy.
        part = copy_share(diagnosis.costs)
        return (
            None if part >= WORTH else f"the copy to the device takes {part:.0%} of a step's time"
        )
    if is_bound(diagnosis, options):
        return BOUND[diagnosis.bottleneck]
    return _not_worth(name, diagnosis.costs, splittable="generator_workers" in info.axes)


def _not_worth(name: str, costs: StageCosts, *, splittable: bool) -> str | None:
    if name == "generator_chunk":
        # CPU time also counts: beside a slow generator, the wall time drowns in the noise.
        cost = costs.from_generator
        part = max(cost.wall_s, cost.cpu_s) / _working_s(costs, splittable=splittable)
        return (
            None if part >= WORTH else f"handing elements to tf.data takes {part:.0%} of the time"
        )
    if name in ("generator_workers", "cache"):
        made_s = costs.generator.wall_s + costs.from_generator.wall_s
        cached = name == "cache"
        part = made_s / max(producer_s(costs), 1e-12) if cached else _leaves_this_process(costs)
        least = WORTH if cached else WORTH_PROCESSES
        return None if part >= least else f"the generator takes {part:.0%} of the time"
    if name == "max_intra_op_parallelism" and (costs.map_is_python or map_waits(costs)):
        return "the map is Python code" if costs.map_is_python else "the map waits"
    if name in ("vectorized_map", "max_intra_op_parallelism", "reorder"):
        part = stages(costs)["map"].wall_s / producer_s(costs)
        return None if part >= WORTH else f"the map takes {part:.0%} of the time"
    if name == "thread_pool_size" and not map_waits(costs):
        return "the map does not wait"
    return None


def map_waits(costs: StageCosts) -> bool:
    """Whether the map spends most of its time waiting, so threads help it."""
    return costs.map is not None and costs.map.waits


def _working_s(costs: StageCosts, *, splittable: bool) -> float:
    """Seconds per example up to the batch, without the waiting that other axes can hide.

    Beside a map that waits for 4 ms, the per-element overhead of from_generator is nothing. Once 64
    calls wait at the same time, it is the bottleneck. Threads hide a map's waiting, processes hide
    a generator's.
    """
    hidden = (costs.map, costs.generator if splittable else None)
    waited_s = sum(cost.wall_s - cost.cpu_s for cost in hidden if cost and cost.waits)
    return producer_s(costs) - waited_s


def _most_calls(diagnosis: Diagnosis | None, cores: int) -> int:
    calls = max(CALLS_PER_CORE * cores, LEAST_CALLS)
    if diagnosis is None or map_waits(diagnosis.costs):
        return max(calls, WAITING_CALLS)
    return calls


def _leaves_this_process(costs: StageCosts) -> float:
    """Share of the time that processes can take over once blocks and batched maps are in use."""
    handed = costs.from_generator if costs.chunked is None else costs.chunked
    mapped = costs.batch_map or costs.map
    elsewhere = costs.generator.wall_s + (0.0 if costs.chunked is None else handed.wall_s)
    # Threads hide a map's waiting, so only its CPU time counts.
    mapped_s = 0.0 if mapped is None else mapped.cpu_s if mapped.waits else mapped.wall_s
    here = costs.step.wall_s + mapped_s
    here += handed.wall_s if costs.chunked is None else 0.0
    return elsewhere / max(elsewhere + here, 1e-12)


def _structural(
    name: str, info: PipelineInfo, options: Options, diagnosis: Diagnosis | None, cores: int
) -> Axis:
    if name == "generator_chunk":
        most = MAX_GENERATOR_CHUNK
        if info.element_bytes:
            most = max(min(most, CHUNK_BYTES // info.element_bytes), 2)
        return Axis.range(name, most, step=4)
    choices = {
        "vectorized_map": (False, True),
        "generator_workers": _processes(options, diagnosis, cores),
        "thread_pool_size": WAITING_THREADS,
        "max_intra_op_parallelism": (0, 1),
        "device_prefetch": (0, 2),
        "cache": (False, True),
        "reorder": (False, True),
    }
    return Axis.of(name, *choices[name])


def _processes(options: Options, diagnosis: Diagnosis | None, cores: int) -> tuple[int, ...]:
    if diagnosis is not None and diagnosis.costs.elsewhere is not None:
        return _on_nodes(diagnosis.costs, cores)
    if diagnosis is not None and diagnosis.costs.generator.waits:
        return WAITING_PROCESSES if options.goal.target is None else FEW_PROCESSES
    return tuple(dict.fromkeys((0, 1, max(cores // 2, 1), cores)))


def _on_nodes(costs: StageCosts, cores: int) -> tuple[int, ...]:
    """Numbers of processes that fill one more node, two, four and so on; and what the step needs.

    The step needs as many as make an example in the time that it takes for one.
    """
    found = costs.elsewhere
    assert found is not None
    filled = [found.here + sum(found.cores[:count]) for count in _doubled(found)]
    filled = [min(count, MAX_PROCESSES) for count in filled if count > cores]
    needed = math.ceil(costs.generator.wall_s / max(costs.step.wall_s, 1e-9))
    choices = {0, 1, max(cores // 2, 1), cores, *filled}
    if cores < needed < max(choices):
        choices.add(needed)
    return tuple(sorted(choices))


def _doubled(elsewhere: OtherNodes) -> list[int]:
    """1, 2, 4 and so on up to the number of nodes, which is the last."""
    most = len(elsewhere.cores)
    return [*(2**power for power in range(most.bit_length()) if 2**power < most), most]


def _of_a_py_dataset(diagnosis: Diagnosis | None, cores: int) -> list[Axis]:
    """The axes of a PyDataset."""
    return [
        Axis.of("workers", *_workers(diagnosis, cores)),
        Axis.of("use_multiprocessing", False, True),
        Axis.range("max_queue_size", 64, low=2),
    ]


def _workers(diagnosis: Diagnosis | None, cores: int) -> tuple[int, ...]:
    """Numbers of workers to try: many if they wait, or if that was not measured."""
    if diagnosis is None:
        return tuple(dict.fromkeys((1, cores, 2 * cores, 4 * cores, 8 * cores)))
    if diagnosis.costs.generator.waits:
        return WAITING_WORKERS
    return tuple(dict.fromkeys((1, max(cores // 2, 1), cores, 2 * cores)))
