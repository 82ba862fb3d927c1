"""The noisy pipeline: what it skips, counts and logs, as a whole and in shards."""

from __future__ import annotations

import logging
from itertools import islice
from typing import Any

import numpy as np
import pytest

from prefetch_tuning.objectives.digest import digest
from prefetch_tuning.pipelines.builtin.noisy import (
    BLOCK,
    FAULTS_LOGGED,
    FAULTY_SHARE,
    NoisyPipeline,
)
from prefetch_tuning.pipelines.chain.build import build_dataset
from prefetch_tuning.pipelines.config import PipelineConfig

SEED = 3
# More than two blocks, and divisible by 2, 3 and 8.
COUNT = 2 * BLOCK + 16


def elements(pipeline: NoisyPipeline, count: int, **shard: int) -> list[Any]:
    return list(islice(pipeline.generate(SEED, **shard), count))


@pytest.mark.parametrize("shards", [2, 3, 8])
def test_shards_in_turn_are_the_plain_stream_and_skip_what_it_skips(shards: int) -> None:
    plain = NoisyPipeline()
    parts = [NoisyPipeline() for _ in range(shards)]
    streams = [
        elements(part, COUNT // shards, shard_index=index, shard_count=shards)
        for index, part in enumerate(parts)
    ]

    in_turn = [element for turn in zip(*streams, strict=True) for element in turn]

    assert digest(in_turn) == digest(elements(plain, COUNT))
    assert sum(part.skipped_elements for part in parts) == plain.skipped_elements


def test_processes_give_the_plain_batches() -> None:
    plain = PipelineConfig.no_prefetch(64)
    processes = plain.model_copy(update={"generator_workers": 3, "generator_chunk": 48})

    digests = {
        digest(build_dataset(NoisyPipeline(), config, seed=SEED).take(20))
        for config in (plain, processes)
    }

    assert len(digests) == 1


def test_about_one_sample_of_a_hundred_is_skipped_and_the_first_are_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pipeline = NoisyPipeline()
    with caplog.at_level(logging.WARNING):
        got = elements(pipeline, 20_000)

    assert pipeline.skipped_elements == pytest.approx(20_000 * FAULTY_SHARE, rel=0.3)
    assert len(caplog.messages) == FAULTS_LOGGED + 1
    assert not np.isnan([readings for readings, _ in got]).any()


def test_the_readings_are_uniform_with_noise() -> None:
    readings = np.stack([readings for readings, _ in elements(NoisyPipeline(), 5_000)])

    scaled, _ = NoisyPipeline().transform(readings, readings)

    assert abs(scaled.mean()) < 0.02
    assert scaled.std() == pytest.approx(1.0, abs=0.02)
    # Neighbouring samples are independent.
    assert abs(np.corrcoef(readings[1:, 0], readings[:-1, 0])[0, 1]) < 0.05
