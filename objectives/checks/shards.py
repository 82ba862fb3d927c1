"""Whether the shards of a generator are together what it yields as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

from prefetch_tuning.objectives.digest import digest
from prefetch_tuning.pipelines.source import GeneratorPipeline, is_shardable

SHARDS = 2


def why_not_split(pipeline: GeneratorPipeline, seed: int, count: int) -> str | None:
    """What keeps the generator from being run in processes; None if its first shards are right.

    The first elements are compared; the rounds of a confirmation compare whole blocks. Where two
    readings of the whole generator differ already, nothing can be compared and nothing is said.

    Args:
        pipeline: a generator.
        seed: of the generator.
        count: elements to compare.
    """
    if not is_shardable(pipeline):
        return None
    generate: Any = pipeline.generate  # that it takes shards was looked up
    shards = [
        list(islice(generate(seed, shard_index=index, shard_count=SHARDS), count // SHARDS))
        for index in range(SHARDS)
    ]
    merged = [element for in_turn in zip(*shards, strict=False) for element in in_turn]
    whole, again = (list(islice(pipeline.generate(seed), len(merged))) for _ in range(2))
    if _same(whole, merged) or not _same(whole, again):
        return None
    return (
        "its shards together are other data than the whole generator's: shard_index must yield "
        "the elements shard_index, shard_index + shard_count, ..."
    )


def _same(ones: Sequence[Any], others: Sequence[Any]) -> bool:
    return digest(ones) == digest(others)
