"""Builds the one chain from a generator to batches: source -> map -> batch -> prefetch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import tensorflow as tf

from prefetch_tuning.pipelines.chain.chunking import batch_of, block_spec, is_flat
from prefetch_tuning.pipelines.chain.monitor import SourceMonitor
from prefetch_tuning.pipelines.config import UNBOUNDED, PipelineConfig
from prefetch_tuning.pipelines.source import (
    BatchesPipeline,
    GeneratorPipeline,
    PipelineError,
    has_transform,
)


def build_dataset(
    pipeline: GeneratorPipeline | BatchesPipeline,
    config: PipelineConfig,
    *,
    seed: int = 0,
    source: SourceMonitor | None = None,
    cluster: str | None = None,
) -> tf.data.Dataset:
    """Builds the dataset of batches that `config` describes.

    Args:
        pipeline: the generator with its map or its declared chain, or a user's own chain.
        config: batch size, prefetch buffer, map parallelism and structure.
        seed: passed to `pipeline.generate`.
        source: starts the generator and watches it; made here if not given.
        cluster: address of a Ray cluster whose nodes run the `generator_workers`, this host's cores
            first: "auto", "HOST:PORT" or "ray://HOST:PORT".

    Returns:
        A dataset of `(features, labels)` with a leading batch dimension of `config.batch_size` on
        every component. It is endless, because a finite generator is restarted when it ends; a
        declared chain is endless only if it repeats.
    """
    if isinstance(pipeline, GeneratorPipeline) and pipeline.chain is not None:
        # It imports this file.
        from prefetch_tuning.pipelines.chain.declared import ChainPipeline  # noqa: PLC0415

        pipeline = ChainPipeline.of(pipeline)
    if isinstance(pipeline, BatchesPipeline):
        if cluster is not None:
            raise PipelineError(
                f"cluster={cluster!r}: {pipeline.name} makes its own chain, so its generator can't "
                "run on other hosts; leave it out"
            )
        return with_options(pipeline.make_batches(config, seed), config)
    source = source or SourceMonitor(pipeline, seed, config, cluster=cluster)
    dataset = (_chunked if config.generator_chunk > 1 else _plain)(pipeline, config, source)
    if config.prefetch_buffer != 0:
        # Last, so the buffer holds finished batches. "auto" grows it until waits stop.
        dataset = dataset.prefetch(config.buffer_size)
    dataset = with_options(dataset, config)
    if config.device_prefetch:
        # After everything else, because a later stage would bring the batches back to the host.
        ahead = tf.data.experimental.prefetch_to_device(_device(), config.device_prefetch)
        dataset = dataset.apply(ahead)
    return dataset


def _plain(
    pipeline: GeneratorPipeline, config: PipelineConfig, source: SourceMonitor
) -> tf.data.Dataset:
    """Takes elements from the generator one by one, then batches them."""
    dataset = tf.data.Dataset.from_generator(source, output_signature=pipeline.element_spec)
    # Before batching, so no epoch ends in a short batch and every step costs the same.
    dataset = dataset.repeat()
    if not has_transform(pipeline):
        return batch_elements(dataset, config.batch_size)
    if config.vectorized_map:
        batches = batch_elements(dataset, config.batch_size)
        return mapped(batches, batch_transform(pipeline), config)
    return batch_elements(mapped(dataset, pipeline.transform, config), config.batch_size)


def _chunked(
    pipeline: GeneratorPipeline, config: PipelineConfig, source: SourceMonitor
) -> tf.data.Dataset:
    """Takes blocks of elements from the generator, in few calls, and regroups them to batches."""
    dataset = in_blocks(pipeline, source)
    if has_transform(pipeline) and not config.vectorized_map:
        elements = mapped(dataset.unbatch(), pipeline.transform, config)
        return batch_elements(elements, config.batch_size)
    dataset = regrouped(dataset, config.batch_size)
    if has_transform(pipeline):
        return mapped(dataset, batch_transform(pipeline), config)
    return dataset


def in_blocks(pipeline: GeneratorPipeline, source: SourceMonitor) -> tf.data.Dataset:
    """The generator's blocks as an endless dataset, each block as a batch of its elements."""
    return _as_batches(pipeline, _blocks(pipeline, source).repeat())


def elements_of(
    pipeline: GeneratorPipeline, config: PipelineConfig, source: SourceMonitor
) -> tf.data.Dataset:
    """The generator's elements, once; they cross from Python in blocks if so configured."""
    if config.generator_chunk > 1:
        elements = _as_batches(pipeline, _blocks(pipeline, source)).unbatch()
        if not any(
            isinstance(s, tf.RaggedTensorSpec) for s in tf.nest.flatten(elements.element_spec)
        ):
            return elements
        return elements.map(tf.autograph.experimental.do_not_convert(_dense))
    return tf.data.Dataset.from_generator(source, output_signature=pipeline.element_spec)


def _dense(*element: Any) -> Any:
    """The same element: what varied within a block arrives as a ragged type, but is dense."""
    return element if len(element) > 1 else element[0]


def _blocks(pipeline: GeneratorPipeline, source: SourceMonitor) -> tf.data.Dataset:
    spec = block_spec(pipeline.element_spec)
    return tf.data.Dataset.from_generator(source, output_signature=spec)


def _as_batches(pipeline: GeneratorPipeline, dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Blocks as batches in the structure of the elements."""
    spec = pipeline.element_spec
    if is_flat(spec) and not is_padded(spec):
        return dataset  # a block already is such a batch
    return dataset.map(tf.autograph.experimental.do_not_convert(partial(batch_of, spec)))


def regrouped(dataset: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
    """Regroups batches to another size, padded if the elements differ in size."""
    spec = dataset.element_spec
    dataset = dataset.rebatch(batch_size)
    if not _is_ragged(spec):
        return dataset
    in_tuple = isinstance(spec, tuple)  # otherwise the batch is `padded`'s only argument

    @tf.autograph.experimental.do_not_convert
    def padded(*batch: Any) -> Any:
        return tf.nest.map_structure(_fill, batch if in_tuple else batch[0])

    return dataset.map(padded)


def _is_ragged(spec: Any) -> bool:
    return any(isinstance(leaf, tf.RaggedTensorSpec) for leaf in tf.nest.flatten(spec))


def _fill(leaf: Any) -> Any:
    """Pads a ragged tensor with zeros to its longest row, as `padded_batch` does."""
    return leaf.to_tensor() if isinstance(leaf, tf.RaggedTensor) else leaf


def mapped(
    dataset: tf.data.Dataset,
    function: Any,
    config: PipelineConfig,
    *,
    deterministic: bool | None = None,
) -> tf.data.Dataset:
    """Adds a map, with the configuration's calls in flight and threads.

    `deterministic` says whether parallel calls keep their order; None leaves it to the dataset's
    options.
    """
    calls = config.num_parallel_calls
    own = {} if deterministic is None or calls is None else {"deterministic": deterministic}
    if config.thread_pool_size == UNBOUNDED and calls is not None:
        own["use_unbounded_threadpool"] = True
    return dataset.map(function, num_parallel_calls=calls, **own)


def batch_transform(pipeline: GeneratorPipeline) -> Any:
    """The map for whole batches: `transform_batch` if there is one, otherwise `transform`."""
    own = pipeline.transform_batch
    return pipeline.transform if own is None else own


def sample_batch(pipeline: GeneratorPipeline, elements: Sequence[Any], batch_size: int) -> Any:
    """Makes a batch of a few elements, repeated, to trace a step on, not to train on.

    It runs the map eagerly, because going through tf.data would take four times as long. It asks
    the generator for nothing. Returns nested tensors with a leading dimension of `batch_size`;
    components of different sizes are padded with zeros, as `padded_batch` does.
    """
    with tf.device("/CPU:0"):  # where tf.data runs the map
        mapped = list(elements)
        if has_transform(pipeline):
            # An element that isn't a tuple is a map's only argument.
            in_tuples = isinstance(pipeline.element_spec, tuple)
            mapped = [pipeline.transform(*(e if in_tuples else (e,))) for e in elements]
        return tf.nest.map_structure(lambda *leaves: _stack(leaves, batch_size), *mapped)


def _stack(leaves: Sequence[Any], size: int) -> Any:
    """A batch of `size` leaves, which are repeated if there are fewer."""
    numbers = [number % len(leaves) for number in range(size)]
    if isinstance(leaves[0], tf.SparseTensor):
        return tf.sparse.concat(0, [tf.sparse.expand_dims(leaves[each], 0) for each in numbers])
    if isinstance(leaves[0], tf.RaggedTensor):
        return tf.stack([leaves[each] for each in numbers])
    tensors = [tf.convert_to_tensor(leaf) for leaf in leaves[:size]]
    if all(tensor.shape == tensors[0].shape for tensor in tensors):
        return tf.gather(tf.stack(tensors), numbers)
    return tf.ragged.stack([tensors[each] for each in numbers]).to_tensor()


def batch_elements(dataset: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
    """Applies `batch`, or `padded_batch` if a dimension of the elements is unknown."""
    if is_padded(dataset.element_spec):
        return dataset.padded_batch(batch_size)
    return dataset.batch(batch_size)


def is_padded(element_spec: Any) -> bool:
    """Whether elements of this spec must be padded to make a batch."""
    specs = tf.nest.flatten(element_spec)
    plain = all(isinstance(spec, tf.TensorSpec) for spec in specs)
    return plain and any(not spec.shape.is_fully_defined() for spec in specs)


def with_options(dataset: tf.data.Dataset, config: PipelineConfig) -> tf.data.Dataset:
    """The dataset with the options of a configuration.

    AUTOTUNE without thread settings or `reorder` keeps tf.data's defaults, as users run it today.
    """
    if config.is_autotune and not config.needs_options:
        return dataset
    options = tf.data.Options() if config.is_autotune else pinned_options()
    if config.reorder:
        options.deterministic = False
    if isinstance(config.thread_pool_size, int) and config.thread_pool_size:
        options.threading.private_threadpool_size = config.thread_pool_size
    if config.max_intra_op_parallelism:
        options.threading.max_intra_op_parallelism = config.max_intra_op_parallelism
    return dataset.with_options(options)


def pinned_options() -> tf.data.Options:
    """Options that make tf.data run exactly the chain that was configured.

    By default tf.data adds its own prefetch, turns sequential maps into parallel ones and retunes
    buffers while it runs. A measurement of `prefetch(1)` would then measure something else.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    options.deterministic = True
    options.experimental_optimization.inject_prefetch = False
    options.experimental_optimization.map_parallelization = False
    return options


def _device() -> str:
    return "/GPU:0" if tf.config.list_logical_devices("GPU") else "/CPU:0"
