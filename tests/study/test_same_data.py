"""Every structure of the chain gives the plain chain's batches, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from prefetch_tuning.objectives.digest import digest
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.chain.build import build_dataset
from prefetch_tuning.pipelines.chain.structure import reasons_against
from prefetch_tuning.pipelines.config import UNBOUNDED, PipelineConfig
from prefetch_tuning.pipelines.source import GeneratorPipeline
from tests.planted import pipelines as planted

BATCHES = 6
DTYPES = (tf.int64, tf.float32, tf.uint8, tf.bool, tf.string)


class Drawn(GeneratorPipeline):
    """Yields random elements of a drawn structure, `length` of them or without end."""

    name = "drawn"
    batch_sizes = (4,)

    def __init__(self, element_spec: Any, length: int | None) -> None:
        self.element_spec = element_spec
        self.length = length

    def generate(self, seed: int, shard_index: int = 0, shard_count: int = 1) -> Iterator[Any]:
        numbers = count() if self.length is None else range(self.length)
        for number in islice(numbers, shard_index, None, shard_count):
            rng = np.random.default_rng((seed, number))
            leaves = [_value(rng, spec) for spec in tf.nest.flatten(self.element_spec)]
            yield tf.nest.pack_sequence_as(self.element_spec, leaves)

    def build_model(self) -> keras.Model:
        raise NotImplementedError


class DrawnMapped(Drawn):
    """The same with a map that changes every component and also works on batches."""

    def transform(self, *element: Any) -> Any:
        mapped = tf.nest.map_structure(_twice, element)
        return mapped if len(element) > 1 else mapped[0]


def _twice(leaf: Any) -> Any:
    if leaf.dtype == tf.string:
        return tf.strings.join([leaf, leaf])
    return tf.logical_not(leaf) if leaf.dtype == tf.bool else leaf + leaf


def _value(rng: np.random.Generator, spec: tf.TensorSpec) -> Any:
    shape = [int(rng.integers(0, 5)) if size is None else size for size in spec.shape]
    drawn = rng.integers(0, 100, shape)
    if spec.dtype == tf.string:
        return np.vectorize(lambda number: f"ä{number}".encode(), otypes=[object])(drawn)
    return drawn.astype(spec.dtype.as_numpy_dtype)


specs = st.builds(tf.TensorSpec, st.lists(st.integers(1, 3), max_size=2), st.sampled_from(DTYPES))
ragged = st.builds(
    lambda inner, dtype: tf.TensorSpec((None, *inner), dtype),
    st.lists(st.integers(1, 3), max_size=1),
    st.sampled_from((tf.int64, tf.float32)),
)
leaves = st.one_of(specs, ragged)
structures = st.one_of(
    st.tuples(leaves),
    st.tuples(leaves, leaves),
    st.tuples(st.fixed_dictionaries({"b": leaves, "a": leaves}), leaves),
    st.tuples(st.tuples(leaves, leaves), st.tuples(leaves)),
)
lengths = st.one_of(st.none(), st.integers(0, 12))
configs = st.builds(
    PipelineConfig,
    batch_size=st.integers(1, 7),
    prefetch_buffer=st.integers(0, 3),
    map_parallelism=st.integers(1, 4),
    generator_chunk=st.sampled_from((1, 2, 3, 4, 7, 64)),
    vectorized_map=st.booleans(),
    thread_pool_size=st.sampled_from((0, 2, UNBOUNDED)),
    max_intra_op_parallelism=st.integers(0, 1),
    device_prefetch=st.integers(0, 2),
)


def batches(pipeline: GeneratorPipeline, config: PipelineConfig) -> list[Any]:
    return list(build_dataset(pipeline, config, seed=3).take(BATCHES))


def assert_same(first: list[Any], second: list[Any]) -> None:
    assert len(first) == len(second)
    for ours, theirs in zip(first, second, strict=True):
        tf.nest.assert_same_structure(ours, theirs)
        for a, b in zip(tf.nest.flatten(ours), tf.nest.flatten(theirs), strict=True):
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            np.testing.assert_array_equal(a.numpy(), b.numpy())


@settings(max_examples=40, deadline=None, derandomize=True)
@given(structures, lengths, configs, st.booleans())
def test_any_structure_gives_the_plain_chains_batches(
    element_spec: Any, length: int | None, config: PipelineConfig, mapped: bool
) -> None:
    pipeline = (DrawnMapped if mapped else Drawn)(element_spec, length)
    if any(spec.shape.rank and spec.shape[0] is None for spec in tf.nest.flatten(element_spec)):
        # Never offered for an unknown dimension: the map would see the padding.
        config = config.model_copy(update={"vectorized_map": False})

    plain = batches(pipeline, PipelineConfig.no_prefetch(config.batch_size))

    assert (length == 0) == (plain == [])
    assert_same(batches(pipeline, config), plain)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.tuples(leaves, leaves), lengths, st.integers(1, 3), st.sampled_from((1, 2, 5, 16)))
def test_processes_merge_to_the_plain_stream(
    element_spec: Any, length: int | None, workers: int, chunk: int
) -> None:
    pipeline = Drawn(element_spec, length)
    config = PipelineConfig.no_prefetch(3)
    parallel = config.model_copy(update={"generator_workers": workers, "generator_chunk": chunk})

    assert_same(batches(pipeline, parallel), batches(pipeline, config))


@pytest.mark.parametrize("name", [n for n in catalog.names() if n != "keras_sequence"])
def test_the_built_in_pipelines_keep_their_data(name: str) -> None:
    pipeline = catalog.load(catalog.resolve(name))
    assert isinstance(pipeline, GeneratorPipeline)
    elements = [
        tf.nest.map_structure(tf.convert_to_tensor, e) for e in islice(pipeline.generate(0), 4)
    ]
    against = reasons_against(pipeline, elements)
    changes = {
        "generator_chunk": 48,
        "vectorized_map": "vectorized_map" not in against,
        "map_parallelism": 2,
    }

    plain = PipelineConfig.no_prefetch(32)
    digests = {
        digest(build_dataset(pipeline, config, seed=1).take(4))
        for config in (plain, plain.model_copy(update=changes))
    }

    assert "generator_chunk" not in against
    assert len(digests) == 1


def test_a_map_that_looks_at_its_neighbours_is_not_offered_batches() -> None:
    class Neighbours(planted.Mapped):
        def transform(self, *element: Any) -> Any:
            features, label = element
            return features - tf.reduce_mean(features), label

    pipeline = Neighbours()
    elements = [
        tf.nest.map_structure(tf.convert_to_tensor, e) for e in islice(pipeline.generate(0), 4)
    ]

    reason = reasons_against(pipeline, elements)["vectorized_map"]

    assert reason == "the map gives different data on a batch than on its elements"
