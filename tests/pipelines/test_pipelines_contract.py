"""The contract of every registered pipeline; registering a new one adds it to these tests."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from prefetch_tuning.objectives.digest import digest
from prefetch_tuning.objectives.loop.training import TrainingFeed
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.chain.build import build_dataset, sample_batch
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.source import GeneratorPipeline, has_transform, is_shardable

# keras_sequence makes its batches itself: tests/adapters/test_own_chains.py covers PyDatasets.
GENERATORS = [name for name in catalog.names() if name != "keras_sequence"]
GENERATORS += catalog.heavy_names()
# The batch size and network for heavy pipelines, whose step would take half a minute on a CPU.
FEW = 2
SMALL = {"width": 4, "blocks": (1, 1)}


@pytest.fixture(params=GENERATORS)
def pipeline(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> GeneratorPipeline:
    found = catalog.load(catalog.resolve(request.param))
    assert isinstance(found, GeneratorPipeline)
    if found.name in catalog.heavy_names():
        for name, value in SMALL.items():
            monkeypatch.setattr(found, name, value)
    return found


@pytest.fixture
def config(pipeline: GeneratorPipeline) -> PipelineConfig:
    heavy = pipeline.name in catalog.heavy_names()
    size = FEW if heavy else min(pipeline.batch_sizes)
    return PipelineConfig(batch_size=size, prefetch_buffer=2, map_parallelism=2)


def elements(pipeline: GeneratorPipeline, seed: int, count: int = 20) -> list[Any]:
    return list(islice(pipeline.generate(seed), count))


def test_it_goes_by_the_name_it_is_registered_under(request: pytest.FixtureRequest) -> None:
    for name in [*catalog.names(), *catalog.heavy_names()]:
        assert catalog.load(catalog.resolve(name)).name == name


def test_elements_match_their_spec(pipeline: GeneratorPipeline) -> None:
    for element in elements(pipeline, seed=0):
        tf.nest.assert_same_structure(element, pipeline.element_spec)
        leaves = zip(tf.nest.flatten(pipeline.element_spec), tf.nest.flatten(element), strict=True)
        for spec, leaf in leaves:
            assert spec.is_compatible_with(tf.convert_to_tensor(leaf, spec.dtype))


@pytest.mark.parametrize("shards", [2, 3])
def test_its_shards_in_turn_give_the_plain_stream(pipeline: GeneratorPipeline, shards: int) -> None:
    if not is_shardable(pipeline):
        pytest.skip("it runs in one process only")
    generate: Any = pipeline.generate
    streams = [generate(3, shard_index=index, shard_count=shards) for index in range(shards)]

    in_turn = [next(streams[i % shards]) for i in range(60)]

    assert digest(in_turn) == digest(elements(pipeline, 3, 60))


def test_the_same_seed_gives_the_same_elements(pipeline: GeneratorPipeline) -> None:
    first, again, other = (digest(elements(pipeline, seed)) for seed in (3, 3, 4))

    assert first == again
    assert first != other


def test_batches_have_the_size_that_was_asked_for(
    pipeline: GeneratorPipeline, config: PipelineConfig
) -> None:
    for batch in build_dataset(pipeline, config).take(2):
        assert {leaf.shape[0] for leaf in tf.nest.flatten(batch)} == {config.batch_size}


def test_parallelism_does_not_change_the_batches(
    pipeline: GeneratorPipeline, config: PipelineConfig
) -> None:
    plain = PipelineConfig.no_prefetch(config.batch_size)
    wide = config.model_copy(update={"prefetch_buffer": 8, "map_parallelism": 8})

    digests = {digest(build_dataset(pipeline, c, seed=1).take(3)) for c in (plain, config, wide)}

    assert len(digests) == 1


def test_one_step_trains(pipeline: GeneratorPipeline, config: PipelineConfig) -> None:
    tf.keras.utils.set_random_seed(0)
    model = pipeline.build_model()
    feed = TrainingFeed(model, build_dataset(pipeline, config))
    feed.trace(sample_batch(pipeline, elements(pipeline, 0, 4), config.batch_size))
    before = [np.copy(weight.numpy()) for weight in model.trainable_weights]

    feed.start()
    feed.step(feed.next_batch())
    feed.synchronise()

    after = [weight.numpy() for weight in model.trainable_weights]
    assert any((old != new).any() for old, new in zip(before, after, strict=True))


def test_the_model_takes_what_the_map_gives(pipeline: GeneratorPipeline) -> None:
    if not has_transform(pipeline):
        pytest.skip("it has no map")
    mapped = pipeline.transform(
        *tf.nest.map_structure(tf.convert_to_tensor, elements(pipeline, 0, 1)[0])
    )

    assert all(tensor.dtype in (tf.float32, tf.int32) for tensor in tf.nest.flatten(mapped))


def test_batch_sizes_ascend(pipeline: GeneratorPipeline) -> None:
    assert list(pipeline.batch_sizes) == sorted(set(pipeline.batch_sizes))
