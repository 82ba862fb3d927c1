"""Which digests count as other data, and how many batches must be compared to see them."""

from __future__ import annotations

import pytest

from prefetch_tuning.experiments.verdict.measurements import (
    comes_from,
    common_batches,
    same_batches,
)
from prefetch_tuning.pipelines.chain.blocks import batches_to_check
from prefetch_tuning.pipelines.config import PipelineConfig


def test_two_runs_of_the_plain_chain_agree_as_far_as_both_went() -> None:
    assert common_batches(["a", "b", "c"], ["a", "b", "c"]) == ["a", "b", "c"]
    assert common_batches(["a", "b", "c"], ["a", "b"]) == ["a", "b"]
    assert common_batches(["a"], ["a", "b"]) == ["a"]
    assert common_batches([], ["a"]) == []


def test_a_plain_chain_that_does_not_repeat_itself_is_no_reference() -> None:
    assert common_batches(["a", "b"], ["a", "x"]) is None
    assert common_batches(["a", "b", "c"], ["x"]) is None


@pytest.mark.parametrize(
    ("each_batch", "expected"),
    [
        (["a", "b", "c"], True),
        (["a", "b"], True),
        (["a", "b", "c", "d"], True),
        ([], True),
        (["a", "a", "c"], False),
        (["b"], False),
        (["b", "a", "c"], False),
    ],
)
def test_batches_are_compared_in_order_as_far_as_both_went(
    each_batch: list[str], expected: bool
) -> None:
    assert same_batches(["a", "b", "c"], each_batch) is expected


@pytest.mark.parametrize(
    ("batch_size", "chunk", "workers", "expected"),
    [
        (32, 1, 0, 2),
        (32, 64, 0, 4),
        (32, 65, 0, 5),
        (32, 1024, 0, 64),
        (256, 1024, 2, 8),
        (4, 1, 4, 16),
        (32, 1, 32, 16),
        (32, 48, 32, 2),
        (7, 1, 1, 3),
    ],
)
def test_two_blocks_of_every_shard_are_checked(
    batch_size: int, chunk: int, workers: int, expected: int
) -> None:
    config = PipelineConfig.no_prefetch(batch_size).model_copy(
        update={"generator_chunk": chunk, "generator_workers": workers}
    )

    assert batches_to_check(config) == expected


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ("abcd", True),
        ("bcda", True),
        ("cdef", True),  # two calls are ahead of the slow ones
        ("cdeg", False),  # a third one can't be
        ("abcx", False),
        ("aabc", False),  # an element comes once
        ("", None),
    ],
)
def test_elements_in_another_order_are_those_that_can_be_there(
    elements: str, expected: bool | None
) -> None:
    assert comes_from("abcdefgh", elements, 2) is expected


def test_too_short_a_reference_tells_nothing_and_a_short_one_compares_less() -> None:
    assert comes_from("ab", "ab", 2) is None
    assert comes_from("abc", "cax", 2) is True  # only the first is compared
    assert comes_from("aab", "aax", 0) is False
