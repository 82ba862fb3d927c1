"""What each stage of a pipeline costs by itself: generator, hand-over, map, batching, step.

Each stage is a chain of its own without look-ahead, run until its rate is known. What a stage adds
is the difference between the chain with it and the chain without it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain, islice, repeat
from typing import Any

import tensorflow as tf

from objectives import steady_state
from objectives.ceilings import Alone
from objectives.digest import nbytes
from objectives.inspection import first_elements
from objectives.measurement import LoopCost, StageCost, StageCosts
from objectives.process_tree import MIB, ProcessTree
from objectives.spec import StopRule
from objectives.steady_state import Feed
from objectives.training import TrainingFeed
from pipelines.build import (
    batch_elements,
    batch_transform,
    build_dataset,
    in_blocks,
    pinned_options,
    regrouped,
    sample_batch,
)
from pipelines.config import PipelineConfig
from pipelines.monitor import SourceMonitor
from pipelines.source import GeneratorPipeline, has_transform
from pipelines.structure import calls_python, reasons_against

RULE = StopRule(window_s=0.08, startup_s=0.08, min_windows=4, max_s=0.32)
# Real elements kept in memory, to run the map and the batching without the generator.
KEPT_ELEMENTS = 64
KEPT_S, KEPT_MIB = 0.5, 256.0
# Elements of the batches that the step is timed on.
SAMPLE_ELEMENTS = 4
# Calls of the map in flight: more than any core count in reach, for a map that only waits.
MAP_CALLS = 8
# A slow stage is measured in smaller batches, so that a window holds more than one.
LONGEST_BATCH_S = 0.05
# The loops: some look-ahead, and as many calls of the map as a small machine has cores.
LOOP_PREFETCH, LOOP_MAP_CALLS = 4, 2
SLOW_BATCH_S = 0.3
# Elements of a block: enough for the price of handing one over to be small against them.
CHUNK = 256


class Stages:
    """Measures the stages of one pipeline in this process."""

    def __init__(self, pipeline: GeneratorPipeline, seed: int) -> None:
        self._pipeline = pipeline
        self._seed = seed
        self._tree = ProcessTree()
        self._batch_size = max(pipeline.batch_sizes)
        self._feed = self._traceable()
        self._elements = self._keep()
        self._chunk = 1
        first = first_elements(pipeline, seed, SAMPLE_ELEMENTS)
        self._against = reasons_against(pipeline, first)

    def measure(self) -> StageCosts:
        """Runs every stage, a few seconds in all."""
        generator = self._generator()
        kept = self._kept()
        batch = self._chain(lambda: kept)
        fed = self._chain(self._generated)
        mapped, speedup, python = None, 1.0, calls_python(self._pipeline)
        if has_transform(self._pipeline):
            # Twice in turn for Python, where the speed-up says whether the GIL holds it: the
            # faster one is the one that nothing else on the host disturbed.
            times = 2 if python else 1
            pairs = [
                (self._mapped(kept, None), self._mapped(kept, MAP_CALLS)) for _ in range(times)
            ]
            with_map, parallel = (
                min(row, key=lambda cost: cost.wall_s) for row in zip(*pairs, strict=True)
            )
            mapped = minus(with_map, batch)
            # Against the whole chain: the parallel map's own bookkeeping counts, too.
            speedup = with_map.wall_s / parallel.wall_s
        chunked = self._chunked(generator)
        step_s, step = self._steps()
        # With a whole batch that slow the stages say enough, and a loop would take a minute.
        slow = fed.wall_s * self._batch_size > SLOW_BATCH_S
        return StageCosts(
            generator=generator,
            from_generator=minus(fed, batch, generator),
            map=mapped,
            batch=batch,
            step=step,
            batch_size=self._batch_size,
            step_s=step_s,
            map_speedup=speedup,
            map_calls=MAP_CALLS,
            map_is_python=python,
            loops=[] if slow else self._loops(),
            chunk=self._chunk,
            chunked=chunked,
            batch_map=self._batch_map(kept, batch),
        )

    def _endless(self) -> Iterator[Any]:
        source = SourceMonitor(self._pipeline, self._seed)
        return chain.from_iterable(source() for _ in iter(int, 1))

    def _keep(self) -> list[Any]:
        """The first elements, fewer where they are slow or large."""
        source = self._endless()
        elements: list[Any] = []
        end, size = time.monotonic() + KEPT_S, 0.0
        while len(elements) < KEPT_ELEMENTS:
            elements.append(next(source))
            size += nbytes(elements[-1]) / MIB
            if time.monotonic() > end or size > KEPT_MIB:
                break
        return elements

    def _kept(self) -> tf.data.Dataset:
        """The kept elements from memory, endless."""
        kept = tf.data.Dataset.from_generator(
            lambda: iter(self._elements), output_signature=self._pipeline.element_spec
        )
        return kept.cache().repeat()

    def _generated(self) -> tf.data.Dataset:
        source = SourceMonitor(self._pipeline, self._seed)
        return tf.data.Dataset.from_generator(
            source, output_signature=self._pipeline.element_spec
        ).repeat()

    def _generator(self) -> StageCost:
        """Of the same elements twice, the faster: files wait for the disk at their first read only.

        So they do in the trials, which all read the same elements.
        """
        costs = [self._generator_from(self._endless()) for _ in range(2)]
        return min(costs, key=lambda cost: cost.wall_s)

    def _generator_from(self, source: Iterator[Any]) -> StageCost:
        next(source)  # opens and loads what it needs
        begin = time.perf_counter()
        next(source)
        count = fitting(time.perf_counter() - begin, 1_000)

        def some() -> None:
            deque(islice(source, count), maxlen=0)

        return self._cost(Alone(count, some))

    def _chunked(self, generator: StageCost) -> StageCost | None:
        """What blocks of elements cost on their way, regrouped to batches, beside the generator."""
        if "generator_chunk" in self._against:
            return None
        self._chunk = max(fitting(generator.wall_s, CHUNK), 2)
        config = PipelineConfig.no_prefetch(self._batch_size)
        config = config.model_copy(update={"generator_chunk": self._chunk})
        source = SourceMonitor(self._pipeline, self._seed, config)
        batches = regrouped(in_blocks(self._pipeline, source), self._batch_size)
        return minus(self._cost(self._taken(batches, self._batch_size)), generator)

    def _mapped(self, kept: tf.data.Dataset, calls: int | None) -> StageCost:
        return self._chain(lambda: kept.map(self._pipeline.transform, num_parallel_calls=calls))

    def _batch_map(self, kept: tf.data.Dataset, batch: StageCost) -> StageCost | None:
        if "vectorized_map" in self._against:
            return None
        size = self._batch_size
        batches = batch_elements(kept, size).map(batch_transform(self._pipeline))
        return minus(self._cost(self._taken(batches, size)), batch)

    def _taken(self, dataset: tf.data.Dataset, size: int) -> Alone:
        batches = iter(dataset.with_options(pinned_options()))
        next(batches)  # starts the generator, fills what is to be filled
        return Alone(size, lambda: next(batches))

    def _chain(self, elements: Callable[[], tf.data.Dataset]) -> StageCost:
        """Cost of a chain up to its batches, an example each, with no look-ahead at its end."""
        each_s = self._first_look_s(elements())
        size = fitting(each_s, self._batch_size)
        return self._cost(self._taken(batch_elements(elements(), size), size))

    def _first_look_s(self, elements: tf.data.Dataset) -> float:
        """Roughly the seconds of one element, by the fastest of a few."""
        found = iter(batch_elements(elements, 1).with_options(pinned_options()))
        times = []
        for _ in range(4):
            begin = time.perf_counter()
            next(found)
            times.append(time.perf_counter() - begin)
        return min(times)

    def _steps(self) -> tuple[dict[int, float], StageCost]:
        """Seconds of a step by batch size, and an example's cost at the largest."""
        first = first_elements(self._pipeline, self._seed, SAMPLE_ELEMENTS)
        step_s: dict[int, float] = {}
        for size in sorted(set(self._pipeline.batch_sizes)):
            batch = sample_batch(self._pipeline, first, size)
            self._feed.trace(batch)
            given = repeat(batch)
            cost = self._cost(Alone(size, given.__next__, self._feed.step, self._feed.synchronise))
            step_s[size] = size * cost.wall_s
        return step_s, cost

    def _loops(self) -> list[LoopCost]:
        """The whole loop at the smallest and the largest batch, and there with the map parallel."""
        sizes = sorted(set(self._pipeline.batch_sizes))
        settings: list[dict[str, Any]] = [{"batch_size": size} for size in {sizes[0], sizes[-1]}]
        if has_transform(self._pipeline):
            settings.append({"batch_size": sizes[-1], "map_parallelism": LOOP_MAP_CALLS})
        if self._chunk > 1:
            vectorized = "vectorized_map" not in self._against
            blocks = {"generator_chunk": self._chunk, "vectorized_map": vectorized}
            settings.append({"batch_size": sizes[-1], **blocks})
        return [self._loop(chosen) for chosen in settings]

    def _loop(self, chosen: dict[str, Any]) -> LoopCost:
        basic = {"prefetch_buffer": LOOP_PREFETCH, "map_parallelism": 1}
        config = PipelineConfig.model_validate({**basic, **chosen})
        self._feed.start(build_dataset(self._pipeline, config, seed=self._seed))
        return LoopCost(**config.model_dump(), wall_s=self._cost(self._feed).wall_s)

    def _traceable(self) -> TrainingFeed:
        """The model's step, traced once for batches of any size."""
        config = PipelineConfig.no_prefetch(self._batch_size)
        dataset = build_dataset(self._pipeline, config)
        return TrainingFeed(self._pipeline.build_model(), dataset)

    def _cost(self, feed: Feed) -> StageCost:
        state = steady_state.measure(feed, RULE, time.perf_counter, self._tree.cpu_s)
        examples = sum(window.examples for window in state.windows)
        return StageCost(
            wall_s=1.0 / steady_state.mean_rate(state.windows), cpu_s=state.cpu_s / examples
        )


def fitting(each_s: float, most: int) -> int:
    """How many of `each_s` seconds fit into the longest batch, from 1 to `most`."""
    return max(1, min(most, int(LONGEST_BATCH_S / max(each_s, 1e-9))))


def minus(whole: StageCost, *parts: StageCost) -> StageCost:
    """What is left of a chain's cost without its parts; noise does not make it negative."""
    wall_s = whole.wall_s - sum(part.wall_s for part in parts)
    cpu_s = whole.cpu_s - sum(part.cpu_s for part in parts)
    return StageCost(wall_s=max(wall_s, 0.0), cpu_s=max(cpu_s, 0.0))
