"""Whether a generator's elements may be kept in memory after the first pass."""

from __future__ import annotations

import hashlib
import pickle
import time
from collections.abc import Iterable
from typing import Any

from prefetch_tuning.objectives.machine.process_tree import MIB
from prefetch_tuning.pipelines.chain.declared import ChainPipeline
from prefetch_tuning.pipelines.chain.transformations import has

# Two passes must fit into this time, and the elements into this memory.
MOST_S, MOST_MIB = 6.0, 2_048.0


class _NotPickledError(Exception):
    """An element can't be pickled."""


def why_not_cached(pipeline: ChainPipeline, seed: int) -> str | None:
    """Why its elements can't be cached; None if two whole passes gave the same ones."""
    if has(pipeline.chain, "cache"):
        return "the chain has a cache"
    try:
        first = _digest(pipeline.source.generate(seed), time.monotonic() + MOST_S / 2)
        if first is None:
            return f"the generator doesn't end within {MOST_S / 2:g} s or {MOST_MIB:,.0f} MiB"
        second = _digest(pipeline.source.generate(seed), time.monotonic() + MOST_S)
    except _NotPickledError:
        return "its elements can't be pickled, so two passes can't be compared"
    return None if first == second else "each pass of the generator gives other elements"


def _digest(elements: Iterable[Any], end: float) -> str | None:
    """Digest of all elements; None if they take too long or too much memory.

    It pickles them, because a comparison as tensors takes 100 us per element, and a generator that
    takes 2 us would seem too long to keep.
    """
    total, size = hashlib.sha256(), 0.0
    for element in elements:
        try:
            text = pickle.dumps(element, protocol=pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            raise _NotPickledError from error
        total.update(text)
        size += len(text) / MIB
        if time.monotonic() > end or size > MOST_MIB:
            return None
    return total.hexdigest()
