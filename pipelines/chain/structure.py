"""Finds the structural settings that a generator pipeline can take without changing its data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from prefetch_tuning.pipelines.chain.build import batch_transform, is_padded
from prefetch_tuning.pipelines.chain.chunking import why_not_chunked
from prefetch_tuning.pipelines.source import GeneratorPipeline, has_transform, is_shardable

PYTHON_OPS = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}


def reasons_against(pipeline: GeneratorPipeline, elements: Sequence[Any]) -> dict[str, str]:
    """The structural settings that the pipeline can't take, each with the reason.

    Args:
        pipeline: a generator and its map.
        elements: some of the generator's elements, as tensors, to try the map on.
    """
    chunk, python = why_not_chunked(pipeline.element_spec), calls_python(pipeline)
    against = {
        "generator_chunk": chunk,
        "vectorized_map": why_not_vectorized(pipeline, elements, python=python),
        "thread_pool_size": None if has_transform(pipeline) else "there is no map",
        "max_intra_op_parallelism": None if has_transform(pipeline) else "there is no map",
        "device_prefetch": None if tf.config.get_visible_devices("GPU") else "there is no GPU",
    }
    if not is_shardable(pipeline):
        against["generator_workers"] = "generate has no parameters shard_index and shard_count"
    else:
        against["generator_workers"] = chunk  # processes hand over their elements in blocks
    return {name: reason for name, reason in against.items() if reason is not None}


def why_not_vectorized(
    pipeline: GeneratorPipeline, elements: Sequence[Any], *, python: bool
) -> str | None:
    """Why the map can't run on whole batches; None if it gives the same bits there.

    `python` says whether the map calls Python.
    """
    if not has_transform(pipeline):
        return "there is no map"
    if is_padded(pipeline.element_spec):
        return "in a padded batch the map would see padding that single elements don't have"
    if python and pipeline.transform_batch is None:
        return "the map calls Python; add a transform_batch method if it can take batches"
    try:
        return _compare(pipeline, elements)
    except Exception as error:
        said = str(error).strip().split("\n")[0].split(" for '{{")[0][:120]
        return f"the map does not take a batch ({type(error).__name__}: {said})"


def calls_python(pipeline: GeneratorPipeline) -> bool:
    """Whether the map's graph contains an op that runs Python."""
    if not has_transform(pipeline):
        return False
    spec = pipeline.element_spec
    traced = tf.function(pipeline.transform).get_concrete_function(
        *(spec if isinstance(spec, tuple) else (spec,))
    )
    graph = traced.graph.as_graph_def()
    nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
    return any(node.op in PYTHON_OPS for node in nodes)


def _compare(pipeline: GeneratorPipeline, elements: Sequence[Any]) -> str | None:
    """Compares the map on batches and on single elements, in graphs, as a dataset runs it."""
    spec = pipeline.element_spec
    some = elements if isinstance(spec, tuple) else [(element,) for element in elements]
    # Two sizes, because a map may mistake a batch of four for an image with four rows.
    for count in (len(some), len(some) - 1):
        taken = some[: max(count, 1)]
        stacked = tf.nest.map_structure(lambda *leaves: tf.stack(leaves), *taken)
        batched = tf.data.Dataset.from_tensors(stacked).map(batch_transform(pipeline))
        one_by_one = (
            tf.data.Dataset.from_tensor_slices(stacked).map(pipeline.transform).batch(len(taken))
        )
        for whole, singles in zip(batched, one_by_one, strict=True):
            tf.nest.assert_same_structure(whole, singles)
            pairs = zip(tf.nest.flatten(whole), tf.nest.flatten(singles), strict=True)
            if not all(_same(first, second) for first, second in pairs):
                return "the map gives different data on a batch than on its elements"
    return None


def _same(first: Any, second: Any) -> bool:
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    return bool(np.array_equal(first.numpy(), second.numpy(), equal_nan=first.dtype.is_floating))
