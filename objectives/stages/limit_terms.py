"""The terms of a pipeline's limit: the most that the step, the generator and the cores allow.

None of them belongs to a configuration. Each is measured alone in a fresh process, so the same
limit applies to every candidate of a round.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from typing import Any

from prefetch_tuning.objectives.checks.elements import element_bytes, first_elements
from prefetch_tuning.objectives.checks.inspection import first_batch
from prefetch_tuning.objectives.loop import steady_state
from prefetch_tuning.objectives.loop.emulated import feed_of, known_step
from prefetch_tuning.objectives.loop.steady_state import Feed
from prefetch_tuning.objectives.machine.scheduling import awake_cores, one_core
from prefetch_tuning.objectives.measurement import LimitTerms
from prefetch_tuning.objectives.spec import StopRule
from prefetch_tuning.objectives.stage_costs import StageCost
from prefetch_tuning.objectives.stages.chains import (
    BLOCK_BYTES,
    StageChains,
    cost_of,
    minus,
    scaled,
)
from prefetch_tuning.objectives.stages.declared_chains import (
    DeclaredChains,
    sample_of,
)
from prefetch_tuning.objectives.stages.device_copy import accelerator, ready_on_device
from prefetch_tuning.objectives.stages.generator_stages import SAMPLE_ELEMENTS
from prefetch_tuning.objectives.stages.py_dataset_stages import BareBatches
from prefetch_tuning.pipelines.chain.build import build_dataset, sample_batch
from prefetch_tuning.pipelines.chain.chunking import why_not_chunked
from prefetch_tuning.pipelines.chain.declared import ChainPipeline
from prefetch_tuning.pipelines.config import MAX_GENERATOR_CHUNK, PipelineConfig
from prefetch_tuning.pipelines.cores import usable_cores
from prefetch_tuning.pipelines.source import (
    BatchesPipeline,
    GeneratorPipeline,
    Pipeline,
    has_transform,
)

# Short, because every round of a confirmation pays for them. On a host whose speed wanders within
# seconds, nine short looks show more than three longer ones.
RULE = StopRule(window_s=0.05, startup_s=0.05, min_windows=3, max_s=0.15)
# Real batches that the step repeats: several, because padded ones differ in length.
READY_BATCHES, READY_S = 4, 0.5
# Settings for a map that waits: with more threads it would also take more CPU time.
IN_THREADS = {"map_parallelism": 32, "thread_pool_size": 32}
# Settings for a map that computes: one thread runs all calls, and no op is split over threads.
ON_ONE_THREAD = {"map_parallelism": 4, "thread_pool_size": 1, "max_intra_op_parallelism": 1}


def measure_limit_terms(
    pipeline: Pipeline,
    batch_size: int,
    seed: int,
    *,
    vectorized: bool,
    cached: bool = False,
) -> LimitTerms:
    """Measures every term in this process; takes about two seconds in all.

    Args:
        pipeline: the pipeline to measure.
        batch_size: examples per batch of the step.
        seed: seed of the generator.
        vectorized: the map gives the same data on whole batches, so this counts as a way to map.
        cached: the generator's elements may be kept in memory, so it costs nothing.
    """
    # The step comes first, as in a trial. Memory that batches have used and given back holds the
    # weights of a later model in smaller pages, and a large model's step took 1.5 times as long
    # there.
    step, step_cpu_s, measured_s = _step(pipeline, batch_size, seed)
    generator: StageCost | None = None
    handed_cpu_s = map_cpu_s = 0.0
    chains: StageChains
    if isinstance(pipeline, ChainPipeline):
        declared = DeclaredChains(pipeline, seed, batch_size, RULE, cached=cached)
        chains, taken = declared, declared.elements_per_example
        generator = None if declared.cached else scaled(_generator(chains), taken)
        handed_cpu_s = taken * _least_handed_cpu_s(pipeline.source, chains)
        if pipeline.transforms:
            map_cpu_s = _least_map_cpu_s(chains, vectorized=False)
        measured_s += chains.measured_s
    elif isinstance(pipeline, BatchesPipeline):
        begin = time.perf_counter()
        generator = _bare_batches(pipeline, seed)
        measured_s += time.perf_counter() - begin
    else:
        chains = StageChains(pipeline, seed, batch_size, RULE)
        generator = _generator(chains)
        handed_cpu_s = _least_handed_cpu_s(pipeline, chains)
        if has_transform(pipeline):
            map_cpu_s = _least_map_cpu_s(chains, vectorized=vectorized)
        measured_s += chains.measured_s
    return LimitTerms(
        step_examples_per_s=1.0 / step.wall_s,
        step_cores=step.cpu_share,
        generator_examples_per_s=1.0 / generator.wall_s if generator else None,
        generator_cpu_s=generator.cpu_s if generator else 0.0,
        handed_cpu_s=handed_cpu_s,
        map_cpu_s=map_cpu_s,
        step_cpu_s=step_cpu_s,
        measured_s=measured_s,
    )


def _generator(chains: StageChains) -> StageCost:
    """Cost per element of the bare generator, as fast as it is beside a busy pipeline."""
    # In 32 processes at once, a generator that waits for 4 ms was 1% faster than 32 times alone.
    return _awake(lambda: chains.generator(readings=1))


def _awake(measure: Callable[[], StageCost]) -> StageCost:
    """A stage's cost; if it waits, on cores that are awake, as they are beside a busy pipeline."""
    alone = measure()
    # A control group's quota would also count the time of the processes that keep the cores awake.
    if not alone.waits or usable_cores() < len(os.sched_getaffinity(0)):
        return alone
    with awake_cores():
        awake = measure()
    # Awake, the CPU time includes that of the processes that keep the cores awake.
    return StageCost(wall_s=min(alone.wall_s, awake.wall_s), cpu_s=alone.cpu_s)


def _bare_batches(pipeline: BatchesPipeline, seed: int) -> StageCost | None:
    """Cost per example of the batches' own Python; None if it can't be run alone."""
    batches = pipeline.bare_batches(seed)
    return None if batches is None else _cost(BareBatches(batches))


def _least_handed_cpu_s(pipeline: GeneratorPipeline, chains: StageChains) -> float:
    """Least CPU seconds per example of handing elements to tf.data and making batches of them."""
    # On two cores, the generator's thread and tf.data's also wake each other up.
    with one_core():
        if why_not_chunked(pipeline.element_spec) is None:
            return chains.in_blocks(chains.fitting_block(MAX_GENERATOR_CHUNK)).cpu_s
        return chains.handed_over().cpu_s


def _least_map_cpu_s(chains: StageChains, *, vectorized: bool) -> float:
    batch = chains.batched()
    ways = [minus(chains.mapped(), batch)]
    if ways[0].waits:
        # With one call at a time, a waiting map spends most of its CPU time on waking up. With
        # threads on several cores, it spends it on waking each other up: 50 to 140 µs on one host,
        # from hour to hour, where a single core took 50 to 80.
        with one_core():
            ways.append(minus(chains.mapped(**IN_THREADS), batch))
    else:
        # With one call at a time, the ops move from thread to thread: an image took 50 µs of CPU
        # time, but 21 µs in calls on a single thread. A chain then reached 110% of the limit.
        ways.append(minus(chains.mapped(**ON_ONE_THREAD), batch))
    if vectorized:
        ways.append(minus(chains.mapped_in_batches(), batch))
    return min(way.cpu_s for way in ways)


def _step(pipeline: Pipeline, batch_size: int, seed: int) -> tuple[StageCost, float, float]:
    """The step on ready batches: cost per example, least CPU seconds per example, time spent."""
    model = pipeline.build_model()
    known = known_step(model, batch_size)
    if known is not None:
        return known, known.cpu_s, 0.0
    dataset = build_dataset(pipeline, _quick(pipeline, batch_size), seed=seed)
    feed = feed_of(model, dataset)
    feed.trace(_sample(pipeline, batch_size, seed))
    batches = _first_batches(dataset)
    begin = time.perf_counter()
    feed.repeat(batches)
    # A step that sleeps for 20 ms was 2% slower alone than beside a pipeline.
    step = _awake(lambda: _cost(feed))
    # Beside a busy pipeline the step has fewer cores, and its threads don't spin while they wait
    # for each other. It needs the least CPU time on a single core.
    with one_core():
        least_cpu_s = min(step.cpu_s, _cost(feed).cpu_s)
    device = accelerator(dataset.element_spec)
    # A strategy copies batches ahead by itself.
    if device is not None and not feed.distributed:
        # On a GPU the step waits for the copy of its batch, unless that was copied ahead. A chain
        # that copies ahead would exceed a limit that doesn't.
        ready = ready_on_device(batches, dataset.element_spec, device)
        # Run once before: while the graph is prepared for batches on the GPU, some pile up.
        feed.start(ready)
        feed.advance()
        feed.synchronise()
        feed.start(ready)
        copied_ahead = _cost(feed)
        step = min(step, copied_ahead, key=lambda cost: cost.wall_s)
        least_cpu_s = min(least_cpu_s, copied_ahead.cpu_s)
    return step, least_cpu_s, time.perf_counter() - begin


def _quick(pipeline: Pipeline, batch_size: int) -> PipelineConfig:
    """Settings that soon give the batches that the step repeats, which are not measured."""
    chunk = 1
    if isinstance(pipeline, GeneratorPipeline) and not why_not_chunked(pipeline.element_spec):
        each = element_bytes(pipeline.element_spec)
        if each is not None and batch_size * each <= BLOCK_BYTES:
            chunk = min(batch_size, MAX_GENERATOR_CHUNK)
    return PipelineConfig(
        batch_size=batch_size,
        prefetch_buffer=0,
        map_parallelism=math.ceil(usable_cores()),
        generator_chunk=chunk,
    )


def _sample(pipeline: Pipeline, batch_size: int, seed: int) -> Any:
    """A batch to trace the step on."""
    if isinstance(pipeline, ChainPipeline):
        return sample_of(pipeline, batch_size, seed)
    if isinstance(pipeline, BatchesPipeline):
        return first_batch(pipeline, batch_size, seed)
    return sample_batch(pipeline, first_elements(pipeline, seed, SAMPLE_ELEMENTS), batch_size)


def _first_batches(dataset: Any) -> list[Any]:
    """Real batches; their iterator is deleted before anything is measured."""
    batches: list[Any] = []
    end = time.monotonic() + READY_S
    for batch in dataset:
        batches.append(batch)
        if len(batches) == READY_BATCHES or time.monotonic() > end:
            break
    return batches


def _cost(feed: Feed) -> StageCost:
    return cost_of(steady_state.measure(feed, RULE, time.perf_counter, time.process_time))
