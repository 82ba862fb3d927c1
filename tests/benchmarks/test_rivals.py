"""The rivals read the same elements as the plain chain."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.side_by_side.rivals.targets import RIVALS, rivals_of, target_of
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.chain.build import build_dataset
from prefetch_tuning.pipelines.config import PipelineConfig

CONFIG = PipelineConfig.autotune(8)
# Those that read one generator from its beginning.
IN_ORDER = ("whole_batches", "keras_threads", "grain_thread")


def first_batch(target: str, config: PipelineConfig = CONFIG) -> list[Any]:
    pipeline: Any = catalog.load(target)
    chain = build_dataset(pipeline, config)
    (batch,) = chain.take(1)
    return [part.numpy() for part in tf.nest.flatten(batch)]


@pytest.mark.parametrize("rival", IN_ORDER)
@pytest.mark.parametrize("name", ["noisy", "text"])
def test_a_rival_reads_the_plain_chains_first_batch(name: str, rival: str) -> None:
    plain = first_batch(name)

    found = first_batch(target_of(name, rival, min(RIVALS[rival].numbers)))

    for own, its in zip(found, plain, strict=True):
        assert own.dtype == its.dtype
        np.testing.assert_array_equal(own, its)


def test_in_any_order_the_elements_are_still_the_plain_chains() -> None:
    """Which of them come first depends on the threads."""
    plain = first_batch("noisy", PipelineConfig.autotune(256))

    found = first_batch(target_of("noisy", "unordered", 1))

    for row, sine in zip(*found, strict=True):
        (at,) = np.flatnonzero((plain[0] == row).all(axis=1))
        np.testing.assert_array_equal(sine, plain[1][at])
    assert len(np.unique(found[0], axis=0)) == CONFIG.batch_size


@pytest.mark.parametrize("rival", ["interleaved", "keras_threads"])
def test_a_rival_that_reads_shards_reads_other_elements_of_the_same_kind(rival: str) -> None:
    plain = first_batch("simple")

    found = first_batch(target_of("simple", rival, 4))

    assert [(part.dtype, part.shape) for part in found] == [
        (part.dtype, part.shape) for part in plain
    ]
    assert len(np.unique(found[0])) == CONFIG.batch_size


@pytest.mark.slow
def test_grains_processes_read_shards() -> None:
    """Two workers take turns, batch by batch: the first has the even elements."""
    plain = first_batch("simple")

    found = first_batch(target_of("simple", "grain_processes", 2))

    np.testing.assert_allclose(found[0][:4], plain[0][::2])


def test_only_a_generator_that_can_be_split_is_read_in_shards() -> None:
    image: Any = catalog.load("image")
    noisy: Any = catalog.load("noisy")

    here = {name for name, rival in RIVALS.items() if not rival.elsewhere}
    assert set(rivals_of(noisy)) == here
    assert here - set(rivals_of(image)) == {"interleaved", "grain_processes"}
