"""Makes NumPy batches of a generator's elements, as a loader's collate function does."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from prefetch_tuning.pipelines.source import GeneratorPipeline, is_shardable


def endless(pipeline: GeneratorPipeline, index: int = 0, count: int = 1) -> Iterator[Any]:
    """The elements of one of `count` shards, pass after pass."""
    sharded: Any = pipeline
    while True:
        if is_shardable(pipeline):
            yield from sharded.generate(0, shard_index=index, shard_count=count)
        else:
            yield from pipeline.generate(0)


def batches(pipeline: GeneratorPipeline, size: int) -> Iterator[Any]:
    """Endless batches of `size` elements from a single generator."""
    elements = endless(pipeline)
    while True:
        yield collate(pipeline.element_spec, list(itertools.islice(elements, size)))


def collate(spec: Any, elements: Sequence[Any]) -> Any:
    """One batch: arrays with a leading dimension of the number of elements.

    Where the spec leaves a dimension open, shorter elements are padded with zeros.
    """
    return tf.nest.map_structure(_stack, spec, *elements)


def _stack(spec: Any, *parts: Any) -> np.ndarray:
    dtype = spec.dtype.as_numpy_dtype
    if spec.shape.is_fully_defined():
        return np.asarray(parts, dtype)
    shapes = [np.shape(part) for part in parts]
    longest = [max(lengths) for lengths in zip(*shapes, strict=True)]
    batch = np.zeros((len(parts), *longest), dtype)
    for row, (part, shape) in enumerate(zip(parts, shapes, strict=True)):
        place: tuple[Any, ...] = (row, *(slice(length) for length in shape))
        batch[place] = part
    return batch


def batch_spec(pipeline: GeneratorPipeline) -> Any:
    """The spec of such a batch."""
    return tf.nest.map_structure(
        lambda one: tf.TensorSpec((None, *one.shape), one.dtype), pipeline.element_spec
    )
