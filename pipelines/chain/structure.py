"""Which structural settings a generator pipeline can take without a change of its data."""

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
    """Structural settings that the pipeline cannot take, and why; the others it can.

    Args:
        pipeline: a generator and its map.
        elements: some of the generator's, as tensors, to try the map on.
    """
    chunk, python = why_not_chunked(pipeline.element_spec), calls_python(pipeline)
    against = {
        "generator_chunk": chunk,
        "vectorized_map": why_not_vectorized(pipeline, elements, python=python),
        "thread_pool_size": None if has_transform(pipeline) else "there is no map",
        "max_intra_op_parallelism": None if has_transform(pipeline) else "there is no map",
        "device_prefetch": None if tf.config.list_physical_devices("GPU") else "there is no GPU",
    }
    if not is_shardable(pipeline):
        against["generator_workers"] = "generate takes no shard_index and shard_count"
    else:
        against["generator_workers"] = chunk  # what they make comes over in blocks
    return {name: reason for name, reason in against.items() if reason is not None}


def why_not_vectorized(
    pipeline: GeneratorPipeline, elements: Sequence[Any], *, python: bool
) -> str | None:
    """What keeps the map from running on whole batches; None if it gives the same bits there.

    `python` says whether it calls Python.
    """
    if not has_transform(pipeline):
        return "there is no map"
    if is_padded(pipeline.element_spec):
        return "a padded batch is other data to the map than its elements"
    if python and pipeline.transform_batch is None:
        return "the map calls Python; a transform_batch method would say that it takes batches"
    try:
        return _compare(pipeline, elements)
    except Exception as error:
        said = str(error).strip().split("\n")[0].split(" for '{{")[0][:120]
        return f"the map does not take a batch ({type(error).__name__}: {said})"


def calls_python(pipeline: GeneratorPipeline) -> bool:
    """Whether the map's graph holds an op that runs Python."""
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
    """Runs the map both ways on the same elements, in graphs, as a dataset does."""
    spec = pipeline.element_spec
    some = elements if isinstance(spec, tuple) else [(element,) for element in elements]
    # Two sizes: a map may take a batch of four for an image of four rows.
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
                return "the map gives other data on a batch than on its elements"
    return None


def _same(first: Any, second: Any) -> bool:
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    return bool(np.array_equal(first.numpy(), second.numpy(), equal_nan=first.dtype.is_floating))
