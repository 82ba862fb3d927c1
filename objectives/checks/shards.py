"""Checks whether the shards of a generator together yield what the whole generator yields."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

from prefetch_tuning.objectives.digest import digest
from prefetch_tuning.pipelines.source import GeneratorPipeline, is_shardable

SHARDS = 2


def why_not_split(pipeline: GeneratorPipeline, seed: int, count: int) -> str | None:
    """Why the generator can't run in several processes; None if its first shards are right.

    This compares the first elements; the rounds of a confirmation compare whole blocks. If two
    readings of the whole generator already differ, nothing can be compared and it returns None.

    Args:
        pipeline: the pipeline whose generator is checked.
        seed: seed of the generator.
        count: number of elements to compare.
    """
    if not is_shardable(pipeline):
        return None
    generate: Any = pipeline.generate  # `is_shardable` has checked that it accepts shards
    shards = [
        list(islice(generate(seed, shard_index=index, shard_count=SHARDS), count // SHARDS))
        for index in range(SHARDS)
    ]
    merged = [element for in_turn in zip(*shards, strict=False) for element in in_turn]
    whole, again = (list(islice(pipeline.generate(seed), len(merged))) for _ in range(2))
    if _same(whole, merged) or not _same(whole, again):
        return None
    return (
        "its shards together don't yield what the whole generator yields: shard i of n must yield "
        "the elements i, i + n, i + 2n, ..."
    )


def _same(ones: Sequence[Any], others: Sequence[Any]) -> bool:
    return digest(ones) == digest(others)
