"""The chains that an expert writes in five lines, for each built-in generator pipeline.

`target_of` gives the target of each: a function of this module, such as `image_batches`, with its
model, such as `image_model`. They are measured like a user's own dataset function.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from prefetch_tuning.objectives.checks.elements import first_elements
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.chain.build import batch_transform, is_padded
from prefetch_tuning.pipelines.chain.structure import reasons_against
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.source import GeneratorPipeline, has_transform, is_shardable

AUTO = tf.data.AUTOTUNE
# Shards that are read at the same time.
SHARDS = 8
BATCHES, INTERLEAVED, UNORDERED = "batches", "interleaved", "unordered"
Build = Callable[[GeneratorPipeline, PipelineConfig], tf.data.Dataset]


def batches(pipeline: GeneratorPipeline, config: PipelineConfig) -> tf.data.Dataset:
    """A generator of whole NumPy batches, the map on each of them, and `prefetch(AUTOTUNE)`."""
    size = config.batch_size

    def generate() -> Iterator[Any]:
        while True:
            elements = pipeline.generate(0)
            while some := list(itertools.islice(elements, size)):
                yield tf.nest.map_structure(lambda *parts: np.stack(parts), *some)

    spec = tf.nest.map_structure(
        lambda one: tf.TensorSpec((None, *one.shape), one.dtype), pipeline.element_spec
    )
    dataset = tf.data.Dataset.from_generator(generate, output_signature=spec)
    if not has_transform(pipeline):
        return dataset.prefetch(AUTO)
    if "vectorized_map" not in reasons_against(pipeline, first_elements(pipeline, 0, 4)):
        return dataset.map(batch_transform(pipeline), num_parallel_calls=AUTO).prefetch(AUTO)
    mapped = dataset.unbatch().map(pipeline.transform, num_parallel_calls=AUTO)
    return mapped.batch(size).prefetch(AUTO)


def interleaved(pipeline: GeneratorPipeline, config: PipelineConfig) -> tf.data.Dataset:
    """Shards of the generator, read side by side and in any order."""

    def shard(index: Any) -> tf.data.Dataset:
        def generate(number: Any) -> Iterator[Any]:
            sharded: Any = pipeline
            return iter(sharded.generate(0, shard_index=int(number), shard_count=SHARDS))

        return tf.data.Dataset.from_generator(
            generate, output_signature=pipeline.element_spec, args=(index,)
        )

    dataset = tf.data.Dataset.range(SHARDS).interleave(
        shard, cycle_length=SHARDS, num_parallel_calls=AUTO, deterministic=False
    )
    return _finished(pipeline, dataset.repeat(), config)


def unordered(pipeline: GeneratorPipeline, config: PipelineConfig) -> tf.data.Dataset:
    """The chain that users write, with elements in any order and parallel batching."""
    dataset = tf.data.Dataset.from_generator(
        lambda: pipeline.generate(0), output_signature=pipeline.element_spec
    )
    return _finished(pipeline, dataset.repeat(), config)


def _finished(
    pipeline: GeneratorPipeline, dataset: tf.data.Dataset, config: PipelineConfig
) -> tf.data.Dataset:
    if has_transform(pipeline):
        dataset = dataset.map(pipeline.transform, num_parallel_calls=AUTO, deterministic=False)
    if is_padded(pipeline.element_spec):
        return dataset.padded_batch(config.batch_size, drop_remainder=True).prefetch(AUTO)
    return dataset.batch(
        config.batch_size, drop_remainder=True, num_parallel_calls=AUTO, deterministic=False
    ).prefetch(AUTO)


def chains_of(pipeline: GeneratorPipeline) -> dict[str, Build]:
    """The chains that make sense for a pipeline, by name."""
    found: dict[str, Build] = {UNORDERED: unordered}
    if not is_padded(pipeline.element_spec):
        found[BATCHES] = batches
    if is_shardable(pipeline):
        found[INTERLEAVED] = interleaved
    return found


def target_of(name: str, chain: str) -> str:
    """The target of a chain of a built-in pipeline."""
    return f"{__name__}:{name}_{chain},model={__name__}:{name}_model"


def __getattr__(name: str) -> Any:
    """Makes the function that a target names, from its pipeline and its chain."""
    pipeline_name, _, chain = name.rpartition("_")
    if pipeline_name not in catalog.names():
        raise AttributeError(name)
    pipeline = catalog.load(pipeline_name)
    if not isinstance(pipeline, GeneratorPipeline):
        raise AttributeError(name)
    if chain == "model":
        return pipeline.build_model
    build = chains_of(pipeline).get(chain)
    if build is None:
        raise AttributeError(name)

    def dataset(config: PipelineConfig) -> tf.data.Dataset:
        return build(pipeline, config)

    dataset.__name__ = name
    return dataset
