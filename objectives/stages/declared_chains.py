"""The stages of a declared chain: its transformations together are measured as its map."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import tensorflow as tf

from prefetch_tuning.objectives.checks.inspection import first_batch
from prefetch_tuning.objectives.digest import nbytes
from prefetch_tuning.objectives.machine.process_tree import MIB
from prefetch_tuning.objectives.spec import StopRule
from prefetch_tuning.objectives.stage_costs import ShuffleCost, StageCost
from prefetch_tuning.objectives.stages.chains import StageChains
from prefetch_tuning.pipelines.chain.declared import ChainPipeline
from prefetch_tuning.pipelines.chain.transformations import (
    BATCHES,
    Transformation,
    number_of_batches,
)
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.source import PipelineError

# They cost nothing per example once they run, but would have a few kept elements fill a buffer or
# end the measurement.
LEFT_OUT = ("shuffle", "cache", "repeat", "take", "skip", "prefetch", "with_options")
SAMPLE = 4
NOTHING = StageCost(wall_s=0.0, cpu_s=0.0)


class DeclaredChains(StageChains):
    """The chains of a pipeline that declares its transformations.

    Behind a cache, the generator and what comes before the cache cost nothing after the first pass,
    so the elements in memory are those that the cache holds.

    Attributes:
        elements_per_example: elements of the generator that go into one example of a batch; more
            than 1 if the chain filters them, less if it makes several of one.
    """

    def __init__(
        self,
        pipeline: ChainPipeline,
        seed: int,
        batch_size: int,
        rule: StopRule,
        *,
        cached: bool = False,
    ) -> None:
        """`cached` counts the generator's elements as in memory, as with the setting `cache`."""
        super().__init__(pipeline.source, seed, batch_size, rule)
        self._declared = pipeline
        self.elements_per_example = self._count()
        before, self._after = _at_cache(pipeline.chain)
        self.cached = cached or before is not None
        self._batches_kept = before is not None and number_of_batches(before) > 0
        if before is not None:
            self._kept = self._through(self._once(), before).cache().repeat()

    def mapped(self, **settings: Any) -> StageCost:
        """Elements in memory through all transformations with these settings, in batches."""
        config = self._config(**settings)

        def batches(size: int) -> tf.data.Dataset:
            sized = config.model_copy(update={"batch_size": size})
            return self._through(self._kept, self._after, sized)

        if "batch_size" in self._declared.axes and not self._batches_kept:
            return self._fitting_chain(batches, config)
        return self.cost(self._taken(batches(self._batch_size), self._batch_size, config))

    def generator(self, readings: int = 2) -> StageCost:
        return NOTHING if self.cached else super().generator(readings)

    def batched(self) -> StageCost:
        if not self._batches_kept:
            return super().batched()
        return self.cost(self._taken(self._kept, self._batch_size))

    def fed(self) -> StageCost:
        return self.batched() if self.cached else super().fed()

    def handed_over(self) -> StageCost:
        return self.batched() if self.cached else super().handed_over()

    def in_blocks(self, chunk: int) -> StageCost:
        return self.batched() if self.cached else super().in_blocks(chunk)

    def shuffles(self, each_s: float) -> list[ShuffleCost]:
        """What each shuffle buffer of the chain costs: the time to fill it, and its memory.

        Args:
            each_s: seconds that an element takes up to the buffer, without what runs at once.
        """
        found = []
        dataset = self._once().take(1)
        config = self._config()
        for transformation in self._declared.chain:
            if transformation.name in BATCHES:
                break
            if transformation.name == "shuffle":
                buffer = int(transformation.arguments["buffer_size"])
                mib = buffer * sum(map(nbytes, dataset.take(1))) / MIB
                found.append(ShuffleCost(buffer_size=buffer, fill_s=buffer * each_s, mib=mib))
            if transformation.name not in LEFT_OUT:
                dataset = self._declared.transformed(dataset, transformation, config, self._seed)
        return found

    def _through(
        self,
        dataset: tf.data.Dataset,
        transformations: Sequence[Transformation],
        config: PipelineConfig | None = None,
    ) -> tf.data.Dataset:
        """The dataset with these transformations, but without those that are left out."""
        for transformation in transformations:
            if transformation.name not in LEFT_OUT:
                dataset = self._declared.transformed(
                    dataset, transformation, config or self._config(), self._seed
                )
        return dataset

    def _once(self) -> tf.data.Dataset:
        return tf.data.Dataset.from_generator(
            lambda: iter(self._elements), output_signature=self._pipeline.element_spec
        )

    def _count(self) -> float:
        """Runs the kept elements once through the chain up to its batches."""
        before = takewhile(lambda each: each.name not in BATCHES, self._declared.chain)
        dataset = self._through(self._once(), list(before))
        examples = sum(1 for _ in dataset)
        if not examples:
            raise PipelineError(
                f"the chain of {self._declared.name} keeps none of its generator's first "
                f"{len(self._elements)} elements"
            )
        return len(self._elements) / examples


def _at_cache(
    chain: Sequence[Transformation],
) -> tuple[Sequence[Transformation] | None, Sequence[Transformation]]:
    """What comes before the chain's last cache, or None without one, and what comes after it."""
    last = max((i for i, each in enumerate(chain) if each.name == "cache"), default=None)
    return (None, chain) if last is None else (chain[:last], chain[last + 1 :])


def sample_of(pipeline: ChainPipeline, batch_size: int, seed: int) -> Any:
    """A batch to trace a step on: the rows of a small real one, repeated."""
    if "batch_size" not in pipeline.axes or pipeline.is_written:
        return first_batch(pipeline, batch_size, seed)
    few = first_batch(pipeline, SAMPLE, seed)

    def rows(leaf: Any) -> Any:
        times = -(-batch_size // SAMPLE)
        if isinstance(leaf, tf.SparseTensor):
            whole = tf.sparse.concat(0, [leaf] * times)
            return tf.sparse.slice(whole, [0] * leaf.shape.rank, [batch_size, *leaf.shape[1:]])
        return tf.concat([leaf] * times, axis=0)[:batch_size]

    return tf.nest.map_structure(rows, few)
