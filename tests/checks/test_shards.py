"""A generator runs in processes only if its shards together are the same data as the whole."""

from __future__ import annotations

import pytest

from prefetch_tuning.objectives.checks.shards import why_not_split
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.source import GeneratorPipeline, is_shardable
from tests.planted import pipelines as planted


@pytest.mark.parametrize("name", [n for n in catalog.names() if n != "keras_sequence"])
def test_every_built_in_that_takes_shards_can_be_split(name: str) -> None:
    pipeline = catalog.load(catalog.resolve(name))
    assert isinstance(pipeline, GeneratorPipeline)

    assert why_not_split(pipeline, 3, 4) is None


def test_copies_are_no_shards() -> None:
    """This has happened: 32 copies of the same data were recommended as 32x AUTOTUNE."""
    assert is_shardable(planted.CopiedShards())
    found = why_not_split(planted.CopiedShards(), 0, 4)

    assert found is not None
    assert found.startswith("its shards together don't yield what the whole generator yields")


def test_what_never_repeats_itself_cannot_be_compared() -> None:
    assert why_not_split(planted.Unseeded(), 0, 4) is None


def test_what_takes_no_shards_is_not_asked() -> None:
    assert why_not_split(planted.Planted(), 0, 4) is None
