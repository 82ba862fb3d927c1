"""The one visible chain from a generator to batches: source -> map -> batch -> prefetch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from pipelines.config import AUTO, PipelineConfig
from pipelines.source import GeneratorPipeline, SourceMonitor, has_transform


def build_dataset(
    pipeline: GeneratorPipeline,
    config: PipelineConfig,
    *,
    seed: int = 0,
    source: SourceMonitor | None = None,
) -> tf.data.Dataset:
    """Builds the endless dataset of batches that `config` describes.

    Args:
        pipeline: the generator and its map.
        config: batch size, prefetch buffer and map parallelism.
        seed: given to `pipeline.generate`.
        source: starts the generator and watches it; made here if not given.

    Returns:
        A dataset of `(features, labels)` with a leading batch dimension of `config.batch_size`
        on every component, without an end: a finite generator is started again.
    """
    dataset = tf.data.Dataset.from_generator(
        source or SourceMonitor(pipeline, seed), output_signature=pipeline.element_spec
    )
    # Before the batch, so that no epoch ends in a short batch and every step costs the same.
    dataset = dataset.repeat()
    if has_transform(pipeline):
        dataset = dataset.map(pipeline.transform, num_parallel_calls=_parallel_calls(config))
    dataset = batch_elements(dataset, config.batch_size)
    if config.prefetch_buffer != 0:
        # Last, so that finished batches are what is held; "auto" grows it until waits stop.
        dataset = dataset.prefetch(_or_autotune(config.prefetch_buffer))
    if config.is_autotune:
        return dataset  # what a user writes today, default options and all
    return dataset.with_options(pinned_options())


def sample_batch(pipeline: GeneratorPipeline, elements: Sequence[Any], batch_size: int) -> Any:
    """A batch made of a few elements, repeated: to trace a step on, not to train on.

    It runs the map eagerly instead of through tf.data, which would take four times as long, and
    asks the generator for nothing. Returns nested tensors with a leading dimension of
    `batch_size`; components of different sizes are padded with zeros, as `padded_batch` does.
    """
    with tf.device("/CPU:0"):  # where tf.data runs the map
        mapped = [pipeline.transform(*e) if has_transform(pipeline) else e for e in elements]
        chosen = [mapped[i % len(mapped)] for i in range(batch_size)]
        return tf.nest.map_structure(lambda *leaves: _stack(leaves), *chosen)


def _stack(leaves: Sequence[Any]) -> Any:
    if isinstance(leaves[0], tf.SparseTensor):
        return tf.sparse.concat(0, [tf.sparse.expand_dims(leaf, 0) for leaf in leaves])
    if isinstance(leaves[0], tf.RaggedTensor):
        return tf.stack(leaves)
    tensors = [tf.convert_to_tensor(leaf) for leaf in leaves]
    if all(tensor.shape == tensors[0].shape for tensor in tensors):
        return tf.stack(tensors)
    return tf.ragged.stack(tensors).to_tensor()


def batch_elements(dataset: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
    """`batch`, or `padded_batch` where a dimension of the elements is unknown."""
    if is_padded(dataset.element_spec):
        return dataset.padded_batch(batch_size)
    return dataset.batch(batch_size)


def is_padded(element_spec: Any) -> bool:
    """Whether elements of this spec must be padded to make a batch."""
    specs = tf.nest.flatten(element_spec)
    plain = all(isinstance(spec, tf.TensorSpec) for spec in specs)
    return plain and any(not spec.shape.is_fully_defined() for spec in specs)


def pinned_options() -> tf.data.Options:
    """Options under which the chain that was asked for is the chain that runs.

    By default tf.data adds a prefetch of its own, turns sequential maps into parallel ones and
    retunes buffers while it runs; a measurement of `prefetch(1)` would then measure none such.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    options.deterministic = True
    options.experimental_optimization.inject_prefetch = False
    options.experimental_optimization.map_parallelization = False
    return options


def _parallel_calls(config: PipelineConfig) -> int | None:
    # num_parallel_calls=1 is not the sequential map: it runs one element ahead on another thread.
    return None if config.map_parallelism == 1 else _or_autotune(config.map_parallelism)


def _or_autotune(value: int | str) -> int:
    return tf.data.AUTOTUNE if value == AUTO else int(value)
