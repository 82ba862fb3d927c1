"""Chains that a pipeline declares: their data, their epochs, and what can be searched in them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from prefetch_tuning import Chain, GeneratorPipeline, build_dataset
from prefetch_tuning.objectives.loop.epochs import Epochs
from prefetch_tuning.objectives.loop.training import TrainingFeed
from prefetch_tuning.objectives.stages.declared_chains import DeclaredChains, sample_of
from prefetch_tuning.objectives.stages.generator_stages import RULE
from prefetch_tuning.pipelines.chain.declared import ChainPipeline, epochs
from prefetch_tuning.pipelines.chain.monitor import SourceMonitor
from prefetch_tuning.pipelines.chain.structure import unordered_stage
from prefetch_tuning.pipelines.chain.transformations import has
from prefetch_tuning.pipelines.config import PipelineConfig


def tenth(x: Any, y: Any) -> Any:
    return x / 10, y


def is_odd(x: Any, y: Any) -> Any:
    return tf.cast(y, tf.int32) % 2 == 1


class Numbers(GeneratorPipeline):
    """Forty numbers."""

    name = "numbers"
    element_spec = (tf.TensorSpec(2, tf.float32), tf.TensorSpec((), tf.float32))
    batch_sizes = (4, 8)

    def __init__(self, chain: Chain | None, count: int = 40) -> None:
        self.chain, self.count, self.runs = chain, count, 0

    def generate(self, seed: int, shard_index: int = 0, shard_count: int = 1) -> Iterator[Any]:
        self.runs += 1
        for number in range(shard_index, self.count, shard_count):
            yield np.full(2, number, np.float32), np.float32(number)

    def build_model(self) -> keras.Model:
        model = keras.Sequential([keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        return model


def made(chain: Chain, **settings: Any) -> list[list[float]]:
    """The labels of each batch of one epoch."""
    basic = {"batch_size": 8, "prefetch_buffer": 2, "map_parallelism": 2}
    config = PipelineConfig.model_validate({**basic, **settings})
    return [list(map(float, y)) for _, y in build_dataset(Numbers(chain), config)]


CHAINS = {
    "empty": Chain(),
    "shuffle before the map": Chain().shuffle(16).map(tenth),
    "shuffle after the map": Chain().map(tenth).shuffle(16, seed=3).batch(),
    "filter": Chain().filter(is_odd).map(tenth).batch(drop_remainder=True),
    "maps before and after the batch": Chain().map(tenth).batch().map(tenth),
    "take, skip and repeat": Chain().skip(3).take(20).repeat(2).batch(),
    "cache": Chain().map(tenth).cache().batch(),
    "padded": Chain().padded_batch(padded_shapes=([4], []), padding_values=(-1.0, 0.0)),
    "applied": Chain().apply(lambda dataset: dataset.enumerate().map(lambda _, e: e)).batch(),
}
STRUCTURES = [
    {"map_parallelism": 4},
    {"generator_chunk": 7},
    {"generator_chunk": 5, "generator_workers": 2},
    {"thread_pool_size": 4, "map_parallelism": 4},
]


@pytest.mark.parametrize("settings", STRUCTURES, ids=str)
@pytest.mark.parametrize("name", CHAINS)
def test_the_data_stay_the_same(name: str, settings: dict[str, Any]) -> None:
    plain = made(CHAINS[name], prefetch_buffer=0, map_parallelism=1)

    assert made(CHAINS[name], **settings) == plain
    assert made(CHAINS[name], prefetch_buffer="auto", map_parallelism="auto") == plain


def test_each_transformation_does_what_it_does_in_tf_data() -> None:
    chain = Chain().skip(1).filter(is_odd).map(tenth).batch(drop_remainder=True)
    pipeline = Numbers(chain)
    found = list(build_dataset(pipeline, PipelineConfig.no_prefetch(8)))
    source = tf.data.Dataset.from_generator(
        lambda: pipeline.generate(0), output_signature=pipeline.element_spec
    )
    expected = list(source.skip(1).filter(is_odd).map(tenth).batch(8, drop_remainder=True))

    assert len(found) == len(expected) == 2
    for one, other in zip(found, expected, strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, one, other)


def test_the_studys_seed_decides_an_unseeded_shuffle() -> None:
    def labels(seed: int, chain: Chain) -> list[float]:
        keras.utils.set_random_seed(0)
        dataset = build_dataset(Numbers(chain), PipelineConfig.no_prefetch(40), seed=seed)
        return list(map(float, next(iter(dataset))[1]))

    assert labels(1, Chain().shuffle(40)) == labels(1, Chain().shuffle(40))
    assert labels(1, Chain().shuffle(40)) != labels(2, Chain().shuffle(40))
    assert labels(1, Chain().shuffle(40, seed=5)) == labels(2, Chain().shuffle(40, seed=5))


def test_an_epoch_ends_and_the_next_one_begins_anew() -> None:
    dataset = build_dataset(Numbers(Chain()), PipelineConfig.no_prefetch(16))
    sizes = [int(y.shape[0]) for (_, y), _ in zip(epochs(dataset), range(5), strict=False)]

    assert sizes == [16, 16, 8, 16, 16]


def test_a_feed_trains_over_the_end_of_an_epoch() -> None:
    pipeline = ChainPipeline.of(Numbers(Chain().shuffle(20)))
    dataset = build_dataset(pipeline, PipelineConfig.no_prefetch(16))
    feed = TrainingFeed(pipeline.build_model(), dataset)
    feed.trace(next(iter(dataset)))
    (source,) = pipeline.sources
    before = source.starts
    feed.start()
    taken = [feed.advance() for _ in range(7)]

    assert [each.examples for each in taken] == [16, 16, 8, 16, 16, 8, 16]
    assert (feed.epochs.count, source.starts - before) == (3, 3)
    # The next epoch's shuffle buffer is filled while the step waits.
    assert all(each.wait_s > 0.0 for each in taken)


def test_an_empty_epoch_ends_the_measurement() -> None:
    begun: list[int] = []

    def begin() -> Iterator[int]:
        begun.append(1)
        return iter(range(2) if len(begun) == 1 else ())

    found = Epochs(begin)
    assert [found.take(next)[0] for _ in range(2)] == [0, 1]
    with pytest.raises(StopIteration):
        found.take(next)
    assert len(begun) == 2


def test_what_can_be_searched() -> None:
    everything = ["batch_size", "map_parallelism", "generator_chunk", "generator_workers"]
    mapped = [*everything, "thread_pool_size", "max_intra_op_parallelism"]
    mapped += ["cache", "reorder"]

    assert ChainPipeline.of(Numbers(Chain().map(tenth))).axes == mapped
    without = ChainPipeline.of(Numbers(Chain().filter(is_odd)))
    assert without.axes == ["batch_size", "generator_chunk", "generator_workers", "cache"]
    assert without.not_offered["thread_pool_size"] == "there is no map"


def test_how_many_elements_an_example_takes() -> None:
    def taken(chain: Chain) -> float:
        pipeline = ChainPipeline.of(Numbers(chain, count=64))
        return DeclaredChains(pipeline, 0, 8, RULE).elements_per_example

    assert taken(Chain().filter(is_odd)) == pytest.approx(2.0)
    assert taken(Chain().apply(lambda dataset: dataset.flat_map(_twice))) == pytest.approx(0.5)
    assert taken(Chain().shuffle(10).take(3).repeat()) == 1.0


def _twice(x: Any, y: Any) -> Any:
    return tf.data.Dataset.from_tensors((x, y)).repeat(2)


def test_what_a_shuffle_buffer_costs() -> None:
    pipeline = ChainPipeline.of(Numbers(Chain().shuffle(1_000).map(tenth)))
    (cost,) = DeclaredChains(pipeline, 0, 8, RULE).shuffles(each_s=0.002)

    assert cost.buffer_size == 1_000
    assert cost.fill_s == pytest.approx(2.0)
    assert cost.mib == pytest.approx(1_000 * 3 * 4 / 2**20)


class Doubles(Numbers):
    """Its elements are double numbers, which `from_generator` makes single ones."""

    def generate(self, seed: int, shard_index: int = 0, shard_count: int = 1) -> Iterator[Any]:
        for number in range(self.count):
            yield np.full(2, number), number


def test_elements_have_the_dtypes_of_their_spec() -> None:
    chain = Chain().map(lambda x, y: (x + tf.ones(2), y)).shuffle(100)
    (cost,) = DeclaredChains(ChainPipeline.of(Doubles(chain)), 0, 8, RULE).shuffles(each_s=0.002)

    assert cost.mib == pytest.approx(100 * 3 * 4 / 2**20)


def test_a_sample_repeats_the_rows_of_a_real_batch() -> None:
    x, y = sample_of(ChainPipeline.of(Numbers(Chain().map(tenth))), 10, 0)

    assert (x.shape, y.shape) == ((10, 2), (10,))
    assert list(map(float, y)) == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]


@pytest.mark.parametrize(
    ("chain", "stage"),
    [
        (Chain().map(tenth), 1),
        (Chain().map(tenth).filter(is_odd).map(tenth).batch(), 3),
        (Chain().shuffle(16).map(tenth).shuffle(16).batch(), 2),
        (Chain().batch().map(tenth), 2),
        (Chain().map(tenth).take(8).batch(), 1),
        (Chain().map(tenth).cache().repeat().batch(), 3),
    ],
    ids=["map", "two maps", "shuffle", "batches", "take", "repeat"],
)
def test_elements_are_compared_up_to_what_makes_something_else_of_another_order(
    chain: Chain, stage: int
) -> None:
    assert unordered_stage(ChainPipeline.of(Numbers(chain))) == stage


def has_ended(source: SourceMonitor) -> bool:
    return source.ends > 0


@pytest.mark.parametrize(
    "chain",
    [
        Chain().batch(),
        Chain().repeat().batch(),
        Chain().repeat().filter(lambda x, y: y >= 0.0).batch(),  # of unknown cardinality
    ],
    ids=["once", "on", "filtered"],
)
def test_a_pass_ends_when_the_cache_is_complete(chain: Chain) -> None:
    """Seen: a pass that ended with the generator left the cache empty one time in five."""
    config = PipelineConfig(batch_size=8, prefetch_buffer=4, map_parallelism=1, cache=True)
    for _ in range(12):
        pipeline = ChainPipeline.of(Numbers(chain, count=400))
        feed = TrainingFeed(pipeline.build_model(), build_dataset(pipeline, config))
        source = pipeline.sources[-1]
        feed.pass_once(30.0, partial(has_ended, source), repeats=has(chain, "repeat"))
        feed.start()
        feed.take_first(4)

        assert source.starts == 1


def test_a_pass_with_a_full_shuffle_is_a_whole_one() -> None:
    """Its generator ends before the first batch, and the map goes on for longer than a cache."""

    def slow(x: Any, y: Any) -> Any:
        def wait(value: Any) -> Any:
            time.sleep(0.002)
            return value

        return x, tf.ensure_shape(tf.numpy_function(wait, [y], tf.float32), ())

    pipeline = ChainPipeline.of(Numbers(Chain().shuffle(1_000).map(slow).batch(), count=400))
    config = PipelineConfig(batch_size=8, prefetch_buffer=0, map_parallelism=1, cache=True)
    feed = TrainingFeed(pipeline.build_model(), build_dataset(pipeline, config))
    first = feed.pass_once(30.0, partial(has_ended, pipeline.sources[-1]), 3)

    assert (first.examples, first.whole, len(first.digests)) == (400, True, 3)
    assert first.seconds > 0.8
