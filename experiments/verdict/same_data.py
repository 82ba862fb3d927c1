"""Whether a configuration trained on the plain chain's data, by its first batches' digests."""

from __future__ import annotations

from collections.abc import Sequence


def reference(first: Sequence[str], second: Sequence[str]) -> list[str] | None:
    """What two runs of the plain chain have in common, as far as both went.

    Args:
        first: digests of the batches of one run, in order.
        second: of another one, which may have ended earlier or later.

    Returns:
        The digests that every configuration is held against; None where the plain chain doesn't
        repeat its own data, so that other data say nothing about a configuration.
    """
    both = min(len(first), len(second))
    return list(first[:both]) if same(first, second) else None


def same(reference: Sequence[str], each_batch: Sequence[str]) -> bool:
    """Whether no batch differs that both have; with nothing to compare there is no evidence."""
    return all(a == b for a, b in zip(reference, each_batch, strict=False))
