"""Chains that each contain one stage of a pipeline, and the cost per example in each of them.

A stage's own cost is the difference between the chain with it and the chain without it. The
elements are in memory, so the map and the batching run without the generator.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from typing import Any

import keras
import tensorflow as tf

from prefetch_tuning.objectives.digest import nbytes
from prefetch_tuning.objectives.loop import steady_state
from prefetch_tuning.objectives.loop.ceilings import Alone
from prefetch_tuning.objectives.loop.steady_state import Feed, SteadyState
from prefetch_tuning.objectives.loop.windows import mean_rate
from prefetch_tuning.objectives.machine.process_tree import MIB, ProcessTree
from prefetch_tuning.objectives.spec import StopRule
from prefetch_tuning.objectives.stage_costs import ShuffleCost, StageCost
from prefetch_tuning.pipelines.chain.build import (
    batch_elements,
    batch_transform,
    in_blocks,
    mapped,
    regrouped,
    with_options,
)
from prefetch_tuning.pipelines.chain.monitor import SourceMonitor
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.source import GeneratorPipeline

# The settings of a chain without any.
PLAIN = PipelineConfig.no_prefetch(1)
# Real elements that are kept in memory, and the time and memory after which no more are added.
KEPT_ELEMENTS = 64
KEPT_S, KEPT_MIB = 0.5, 256.0
# A block of large elements contains fewer of them.
BLOCK_BYTES = 16 * MIB
# A slow stage is measured in smaller batches, so that a window contains more than one.
LONGEST_BATCH_S = 0.05


class Kept(GeneratorPipeline):
    """Elements that already exist, to hand to tf.data as a generator would; there is no model."""

    name = "kept"
    batch_sizes = ()

    def __init__(self, element_spec: Any, elements: list[Any]) -> None:
        self.element_spec = element_spec
        self._elements = elements

    def generate(self, seed: int) -> Iterator[Any]:
        del seed
        return cycle(self._elements)

    def build_model(self) -> keras.Model:
        raise NotImplementedError


class StageChains:
    """The chains of one pipeline in this process, at one batch size.

    Attributes:
        measured_s: seconds of measuring so far, with the start of each iterator.
        elements_per_example: elements of the generator that go into one example of a batch.
    """

    elements_per_example = 1.0

    def __init__(
        self, pipeline: GeneratorPipeline, seed: int, batch_size: int, rule: StopRule
    ) -> None:
        self._pipeline = pipeline
        self._seed = seed
        self._batch_size = batch_size
        self._rule = rule
        self._tree = ProcessTree()
        self.measured_s = 0.0
        self._elements = self._keep()
        self._kept = (
            tf.data.Dataset.from_generator(
                lambda: iter(self._elements), output_signature=pipeline.element_spec
            )
            .cache()
            .repeat()
        )

    def generator(self, readings: int = 2) -> StageCost:
        """The bare generator: the fastest of `readings` readings of the same elements.

        Only the first reading of a file waits for the disk. The same is true in the trials, which
        all read the same elements.
        """
        sources = [SourceMonitor(self._pipeline, self._seed) for _ in range(readings)]
        costs = [self._generator_from(source.endless()) for source in sources]
        return min(costs, key=lambda cost: cost.wall_s)

    def batched(self) -> StageCost:
        """Elements in memory, in batches."""
        return self._chain(self._kept)

    def fed(self) -> StageCost:
        """Elements of the generator, handed over one by one, in batches."""
        source = SourceMonitor(self._pipeline, self._seed)
        generated = tf.data.Dataset.from_generator(
            source, output_signature=self._pipeline.element_spec
        )
        return self._chain(generated.repeat())

    def handed_over(self) -> StageCost:
        """Elements in memory, handed over one by one, in batches."""
        source = SourceMonitor(Kept(self._pipeline.element_spec, self._elements), self._seed)
        given = tf.data.Dataset.from_generator(source, output_signature=self._pipeline.element_spec)
        return self._chain(given)

    def mapped(self, **settings: Any) -> StageCost:
        """Elements in memory, mapped one by one with these settings, in batches."""
        config = self._config(**settings)
        return self._chain(mapped(self._kept, self._pipeline.transform, config), config)

    def mapped_in_batches(self) -> StageCost:
        """Elements in memory, in batches that are mapped as a whole."""
        batches = batch_elements(self._kept, self._batch_size)
        return self.cost(
            self._taken(batches.map(batch_transform(self._pipeline)), self._batch_size)
        )

    def fitting_block(self, most: int) -> int:
        """Elements per block, from 2 to `most`; fewer if they are large."""
        each = sum(map(nbytes, self._elements)) / len(self._elements)
        return max(2, min(most, int(BLOCK_BYTES / max(each, 1.0))))

    def in_blocks(self, chunk: int) -> StageCost:
        """Elements in memory, handed over in blocks and regrouped into batches.

        With a generator that waits for milliseconds, the microseconds of a block would be lost.
        """
        kept = Kept(self._pipeline.element_spec, self._elements)
        source = SourceMonitor(kept, self._seed, self._config(generator_chunk=chunk))
        batches = regrouped(in_blocks(kept, source), self._batch_size)
        return self.cost(self._taken(batches, self._batch_size))

    def shuffles(self, each_s: float) -> list[ShuffleCost]:
        """What the chain's shuffle buffers cost; only a declared chain has any."""
        del each_s
        return []

    def cost(self, feed: Feed) -> StageCost:
        """Seconds per example of what `feed` runs."""
        with self.measuring():
            state = steady_state.measure(feed, self._rule, time.perf_counter, self._tree.cpu_s)
        return cost_of(state)

    @contextlib.contextmanager
    def measuring(self) -> Iterator[None]:
        """Counts what the block takes as measuring."""
        begin = time.perf_counter()
        yield
        self.measured_s += time.perf_counter() - begin

    def _config(self, **settings: Any) -> PipelineConfig:
        config = PipelineConfig.no_prefetch(self._batch_size)
        return PipelineConfig.model_validate({**config.model_dump(), **settings})

    def _keep(self) -> list[Any]:
        """The first elements; fewer if they are slow or large."""
        source = SourceMonitor(self._pipeline, self._seed).endless()
        elements: list[Any] = []
        end, size = time.monotonic() + KEPT_S, 0.0
        while len(elements) < KEPT_ELEMENTS:
            elements.append(next(source))
            size += nbytes(elements[-1]) / MIB
            if time.monotonic() > end or size > KEPT_MIB:
                break
        return elements

    def _generator_from(self, source: Iterator[Any]) -> StageCost:
        with self.measuring():
            next(source)  # the first element opens and loads what the generator needs
            begin = time.perf_counter()
            next(source)
            count = fitting(time.perf_counter() - begin, 1_000)

        def some() -> None:
            deque(islice(source, count), maxlen=0)

        return self.cost(Alone(count, some))

    def _chain(self, elements: tf.data.Dataset, config: PipelineConfig = PLAIN) -> StageCost:
        """Cost per example of a chain up to its batches, without look-ahead at its end."""
        return self._fitting_chain(lambda size: batch_elements(elements, size), config)

    def _fitting_chain(
        self, batches: Callable[[int], tf.data.Dataset], config: PipelineConfig = PLAIN
    ) -> StageCost:
        """The same for batches of a size that is given, in a size that isn't too slow."""
        each_s = self._first_look_s(batches(1), config)
        size = fitting(each_s, self._batch_size)
        return self.cost(self._taken(batches(size), size, config))

    def _first_look_s(self, batches: tf.data.Dataset, config: PipelineConfig) -> float:
        """A rough estimate of the seconds per batch: the fastest of a few."""
        times = []
        with self.measuring():
            found = iter(with_options(batches, config))
            for _ in range(4):
                begin = time.perf_counter()
                next(found)
                times.append(time.perf_counter() - begin)
        return min(times)

    def _taken(self, dataset: tf.data.Dataset, size: int, config: PipelineConfig = PLAIN) -> Alone:
        with self.measuring():
            batches = iter(with_options(dataset, config))
            next(batches)  # starts the generator and fills the buffers
        return Alone(size, lambda: next(batches))


def cost_of(state: SteadyState) -> StageCost:
    """Seconds per example of what was measured."""
    examples = sum(window.examples for window in state.windows)
    return StageCost(wall_s=1.0 / mean_rate(state.windows), cpu_s=state.cpu_s / examples)


def fitting(each_s: float, most: int) -> int:
    """How many pieces of `each_s` seconds fit into the longest batch, from 1 to `most`."""
    return max(1, min(most, int(LONGEST_BATCH_S / max(each_s, 1e-9))))


def scaled(cost: StageCost, times: float) -> StageCost:
    """The cost of so many of them."""
    return StageCost(wall_s=times * cost.wall_s, cpu_s=times * cost.cpu_s)


def minus(whole: StageCost, *parts: StageCost) -> StageCost:
    """What remains of a chain's cost without its parts; noise can't make it negative."""
    wall_s = whole.wall_s - sum(part.wall_s for part in parts)
    cpu_s = whole.cpu_s - sum(part.cpu_s for part in parts)
    return StageCost(wall_s=max(wall_s, 0.0), cpu_s=max(cpu_s, 0.0))
