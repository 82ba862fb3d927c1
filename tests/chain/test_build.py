"""The chain, built in this process: the batches that it gives and the options it runs under."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from prefetch_tuning.pipelines.chain.build import build_dataset, pinned_options, sample_batch
from prefetch_tuning.pipelines.chain.monitor import SourceMonitor
from prefetch_tuning.pipelines.config import UNBOUNDED, PipelineConfig
from prefetch_tuning.pipelines.source import PipelineError
from tests.planted import pipelines as planted

CONFIG = PipelineConfig(batch_size=4, prefetch_buffer=2, map_parallelism=2)


def batches(pipeline: Any, config: PipelineConfig, count: int) -> list[Any]:
    dataset = build_dataset(pipeline, config, seed=5).take(count)
    return [tf.nest.map_structure(lambda t: t.numpy(), batch) for batch in dataset]


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        PipelineConfig.no_prefetch(4),
        PipelineConfig.autotune(4),
        PipelineConfig(batch_size=4, prefetch_buffer=64, map_parallelism=16),
    ],
    ids=str,
)
def test_the_settings_change_the_speed_and_not_the_data(config: PipelineConfig) -> None:
    generator = planted.Mapped().generate(5)
    plain = [next(generator) for _ in range(12)]

    got = batches(planted.Mapped(), config, 3)

    features = np.concatenate([batch[0] for batch in got])
    labels = np.concatenate([batch[1] for batch in got])
    np.testing.assert_array_equal(features, [2.0 * element[0] for element in plain])
    np.testing.assert_allclose(labels, [element[1] for element in plain])


def test_a_finite_generator_is_started_again_within_a_batch() -> None:
    monitor = SourceMonitor(planted.Finite(), seed=0)
    dataset = build_dataset(planted.Finite(), PipelineConfig.no_prefetch(4), source=monitor)

    labels = [batch[1].numpy().tolist() for batch in dataset.take(5)]

    assert labels == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 1], [2, 3, 4, 5], [6, 7, 8, 9]]
    assert monitor.starts == 2


def test_unknown_dimensions_are_padded_with_zeros() -> None:
    features, _ = batches(planted.Ragged(), CONFIG, 1)[0]
    lengths = [
        len(element[0]) for element, _ in zip(planted.Ragged().generate(5), range(4), strict=False)
    ]

    assert features.shape == (4, max(lengths), 4)
    for row, length in zip(features, lengths, strict=True):
        assert not row[length:].any()


def test_the_generators_exception_is_kept() -> None:
    monitor = SourceMonitor(planted.Faulty(), seed=0)
    dataset = build_dataset(planted.Faulty(), CONFIG, source=monitor)

    with pytest.raises(tf.errors.OpError):
        for _ in dataset:
            pass

    assert isinstance(monitor.error, KeyError)


def test_tuned_chains_are_pinned_and_autotune_is_left_alone() -> None:
    tuned = build_dataset(planted.Mapped(), CONFIG).options()
    user = build_dataset(planted.Mapped(), PipelineConfig.autotune(4)).options()

    assert tuned.autotune.enabled is False
    assert tuned.experimental_optimization.inject_prefetch is False
    assert tuned.deterministic is True
    assert user == tf.data.Options()
    assert user != pinned_options()


def graph_ops(config: PipelineConfig) -> list[str]:
    dataset = build_dataset(planted.Mapped(), config)
    graph = tf.compat.v1.GraphDef.FromString(
        tf.raw_ops.DatasetToGraphV2(input_dataset=dataset._variant_tensor).numpy()
    )
    return [node.op for node in graph.node if "Dataset" in node.op]


def test_the_sequential_map_is_sequential_and_no_prefetch_is_none() -> None:
    assert "MapDataset" in graph_ops(PipelineConfig.no_prefetch(4))
    assert "ParallelMapDatasetV2" not in graph_ops(PipelineConfig.no_prefetch(4))
    assert "PrefetchDataset" not in graph_ops(PipelineConfig.no_prefetch(4))
    assert "ParallelMapDatasetV2" in graph_ops(CONFIG)
    assert "PrefetchDataset" in graph_ops(CONFIG)


@pytest.mark.parametrize("name", ["Planted", "Mapped", "Ragged"])
def test_the_batch_that_a_step_is_traced_on_looks_like_the_chains(name: str) -> None:
    pipeline = getattr(planted, name)()
    elements = [e for e, _ in zip(pipeline.generate(5), range(3), strict=False)]

    sample = sample_batch(pipeline, elements, 7)

    spec = build_dataset(pipeline, CONFIG).element_spec
    tf.nest.assert_same_structure(sample, spec)
    for tensor, expected in zip(tf.nest.flatten(sample), tf.nest.flatten(spec), strict=True):
        assert tensor.shape[0] == 7
        assert tensor.dtype == expected.dtype
        assert expected.shape.is_compatible_with(tensor.shape)


def test_calls_that_are_done_overtake_slower_ones_only_if_they_may() -> None:
    class FirstIsSlow(planted.Planted):
        def transform(self, features: Any, label: Any) -> Any:
            def wait(number: Any) -> Any:
                time.sleep(0.3 if number == 0 else 0.0)
                return number

            return features, tf.ensure_shape(tf.numpy_function(wait, [label], tf.float32), ())

        def generate(self, seed: int) -> Any:
            for number in range(16):
                yield np.zeros(4, np.float32), np.float32(number)

    # On a pool of its own or tf.data's, the map and the batch become one, which keeps the order.
    config = CONFIG.model_copy(update={"map_parallelism": 4, "thread_pool_size": UNBOUNDED})
    ordered = [list(y) for _, y in batches(FirstIsSlow(), config, 4)]
    may = config.model_copy(update={"reorder": True})
    reordered = [float(y) for _, batch in batches(FirstIsSlow(), may, 4) for y in batch]

    assert np.concatenate(ordered).tolist() == list(range(16))
    assert 0.0 not in reordered[:4]
    assert set(reordered[:4]) <= set(range(4 + 4))


def test_another_order_is_an_option_with_autotune_too() -> None:
    def deterministic(config: PipelineConfig) -> Any:
        return build_dataset(planted.Mapped(), config).options().deterministic

    may = {"reorder": True}
    assert deterministic(CONFIG) is True
    assert deterministic(CONFIG.model_copy(update=may)) is False
    assert deterministic(PipelineConfig.autotune(4)) is None
    assert deterministic(PipelineConfig.autotune(4).model_copy(update=may)) is False


class Names(planted.Planted):
    """Elements that aren't tuples, which the map makes pairs of."""

    element_spec = tf.TensorSpec((), tf.string)

    def generate(self, seed: int) -> Iterator[Any]:
        yield from (b"a", b"bb", b"ccc")

    def transform(self, name: Any) -> Any:
        return tf.fill([4], 1.0), tf.cast(tf.strings.length(name), tf.float32)


def test_an_element_that_is_no_tuple_is_the_maps_only_argument() -> None:
    _, lengths = sample_batch(Names(), [b"a", b"bb"], 3)

    assert lengths.numpy().tolist() == [1.0, 2.0, 1.0]
    _, made = next(iter(build_dataset(Names(), CONFIG)))
    assert made.numpy().tolist()[:3] == [1.0, 2.0, 3.0]


def test_a_declared_chain_does_not_run_on_a_cluster() -> None:
    with pytest.raises(PipelineError, match="cluster='auto': shuffled makes its own chain"):
        build_dataset(planted.Shuffled(), CONFIG, cluster="auto")
