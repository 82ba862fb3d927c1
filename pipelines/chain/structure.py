"""Finds the structural settings that a generator pipeline can take without changing its data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from prefetch_tuning.pipelines.chain.build import batch_transform, is_padded
from prefetch_tuning.pipelines.chain.chunking import why_not_chunked
from prefetch_tuning.pipelines.chain.declared import ChainPipeline
from prefetch_tuning.pipelines.source import GeneratorPipeline, has_transform, is_shardable

# Transformations that keep a set of elements the same, in whatever order these come.
KEEPS_ELEMENTS = ("map", "filter", "cache", "repeat")
# Those whose results depend on a state or on the order of the calls.
RANDOM_OPS = {
    "Multinomial",
    "ParameterizedTruncatedNormal",
    "RandomGamma",
    "RandomPoissonV2",
    "RandomShuffle",
    "RandomStandardNormal",
    "RandomUniform",
    "RandomUniformInt",
    "SampleDistortedBoundingBoxV2",
    "StatefulRandomBinomial",
    "StatefulStandardNormalV2",
    "StatefulTruncatedNormal",
    "StatefulUniform",
    "StatefulUniformInt",
    "TruncatedNormal",
}
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
        "reorder": None if has_transform(pipeline) else "there is no map",
        "cache": "only a declared chain or a script has epochs that end",
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
    return has_transform(pipeline) and has_python_op(pipeline.transform, pipeline.element_spec)


def has_python_op(function: Callable[..., Any], spec: Any) -> bool:
    """Whether a function of elements of this spec contains an op that runs Python."""
    return not PYTHON_OPS.isdisjoint(ops_of(function, spec))


def ops_of(function: Callable[..., Any], spec: Any) -> set[str]:
    """The names of the ops in a function of elements of this spec."""
    traced = tf.function(function).get_concrete_function(
        *(spec if isinstance(spec, tuple) else (spec,))
    )
    graph = traced.graph.as_graph_def()
    nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
    return {node.op for node in nodes}


def draws_random(function: Callable[..., Any], spec: Any) -> bool:
    """Whether a function contains an op whose result depends on the order of its calls.

    These are TensorFlow's stateful random ops, and writes to a variable: Keras's random layers
    count their calls in one.
    """
    return any(op in RANDOM_OPS or op.startswith("Assign") for op in ops_of(function, spec))


def chain_calls_python(pipeline: ChainPipeline) -> bool:
    """Whether a map of the chain calls Python."""
    return any(has_python_op(function, spec) for _, function, spec in pipeline.maps())


def random_stage(pipeline: ChainPipeline) -> int | None:
    """The number of transformations before the first map that draws random numbers, or None."""
    found = (number for number, *traced in pipeline.maps() if draws_random(*traced))
    return next(found, None)


def unordered_stage(pipeline: ChainPipeline) -> int:
    """The number of transformations behind which a set of elements can be compared.

    Calls of a map may overtake each other. It ends before the first transformation behind a map
    that makes something else of another order, like a batch or a shuffle.
    """
    mapped = False
    for number, each in enumerate(pipeline.chain):
        if mapped and each.name not in KEEPS_ELEMENTS:
            return number
        mapped = mapped or each.name == "map"
    return len(pipeline.chain)


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
