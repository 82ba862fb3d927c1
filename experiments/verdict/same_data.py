"""Checks by digests of the first batches that a configuration trained on the plain chain's data."""

from __future__ import annotations

from collections.abc import Sequence


def reference(first: Sequence[str], second: Sequence[str]) -> list[str] | None:
    """The batches that two runs of the plain chain have in common, as far as both went.

    Args:
        first: digests of the batches of one run, in order.
        second: digests of another run, which may have ended earlier or later.

    Returns:
        The digests to compare every configuration with; None if the plain chain doesn't repeat its
        own data, because different data then say nothing about a configuration.
    """
    both = min(len(first), len(second))
    return list(first[:both]) if same(first, second) else None


def same(reference: Sequence[str], each_batch: Sequence[str]) -> bool:
    """Whether all batches that both have are the same; also true with nothing to compare."""
    return all(a == b for a, b in zip(reference, each_batch, strict=False))
