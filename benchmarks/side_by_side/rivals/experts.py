"""The chains that an expert writes in five lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from benchmarks.side_by_side.rivals.collate import batch_spec, batches
from prefetch_tuning.objectives.checks.elements import first_elements
from prefetch_tuning.pipelines.chain.build import batch_transform, is_padded
from prefetch_tuning.pipelines.chain.structure import reasons_against
from prefetch_tuning.pipelines.source import GeneratorPipeline, has_transform

AUTO = tf.data.AUTOTUNE


def whole_batches(pipeline: GeneratorPipeline, size: int, _: int) -> tf.data.Dataset:
    """A generator of whole NumPy batches, the map on each of them, and `prefetch(AUTOTUNE)`."""
    dataset = tf.data.Dataset.from_generator(
        lambda: batches(pipeline, size), output_signature=batch_spec(pipeline)
    )
    return mapped(pipeline, dataset, size)


def mapped(pipeline: GeneratorPipeline, dataset: tf.data.Dataset, size: int) -> tf.data.Dataset:
    """The map with AUTOTUNE on a dataset of batches, on whole batches if it gives the same."""
    if not has_transform(pipeline):
        return dataset.prefetch(AUTO)
    if "vectorized_map" not in reasons_against(pipeline, first_elements(pipeline, 0, 4)):
        return dataset.map(batch_transform(pipeline), num_parallel_calls=AUTO).prefetch(AUTO)
    elements = dataset.unbatch().map(pipeline.transform, num_parallel_calls=AUTO)
    return elements.batch(size).prefetch(AUTO)


def interleaved(pipeline: GeneratorPipeline, size: int, shards: int) -> tf.data.Dataset:
    """Shards of the generator, read side by side and in any order."""

    def shard(index: Any) -> tf.data.Dataset:
        def generate(number: Any) -> Iterator[Any]:
            sharded: Any = pipeline
            return iter(sharded.generate(0, shard_index=int(number), shard_count=shards))

        return tf.data.Dataset.from_generator(
            generate, output_signature=pipeline.element_spec, args=(index,)
        )

    dataset = tf.data.Dataset.range(shards).interleave(
        shard, cycle_length=shards, num_parallel_calls=AUTO, deterministic=False
    )
    return _finished(pipeline, dataset.repeat(), size)


def unordered(pipeline: GeneratorPipeline, size: int, _: int) -> tf.data.Dataset:
    """The chain that users write, with elements in any order and parallel batching."""
    dataset = tf.data.Dataset.from_generator(
        lambda: pipeline.generate(0), output_signature=pipeline.element_spec
    )
    return _finished(pipeline, dataset.repeat(), size)


def _finished(pipeline: GeneratorPipeline, dataset: tf.data.Dataset, size: int) -> tf.data.Dataset:
    if has_transform(pipeline):
        dataset = dataset.map(pipeline.transform, num_parallel_calls=AUTO, deterministic=False)
    if is_padded(dataset.element_spec):
        return dataset.padded_batch(size, drop_remainder=True).prefetch(AUTO)
    return dataset.batch(
        size, drop_remainder=True, num_parallel_calls=AUTO, deterministic=False
    ).prefetch(AUTO)
