"""Chooses the points of a search space that a grid measures."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

from prefetch_tuning.experiments.search.space import SearchSpace
from prefetch_tuning.pipelines.config import PipelineConfig


def thinned(space: SearchSpace, count: int, seed: int = 0) -> list[PipelineConfig]:
    """About `count` points of a space in random order, or all points if there are no more.

    The first points cover every value of every axis, even if that takes more than `count` points.
    The others are taken evenly from all combinations of structural settings, so none has many
    points while another has none. The same arguments give the same points.

    Args:
        space: the space whose axes span the grid.
        count: about how many points; 0 for the whole grid.
        seed: the seed of the choice.
    """
    points = list(space.grid())
    random.Random(seed).shuffle(points)  # noqa: S311
    if count == 0 or len(points) <= count:
        return points
    chosen = _covering(space, points)
    by_structure: dict[tuple[object, ...], list[PipelineConfig]] = defaultdict(list)
    for point in points:
        by_structure[_structure(point)].append(point)
    taken = set(chosen)
    # The points that cover the axes count towards their structures.
    waiting = [[p for p in group if p not in taken] for group in by_structure.values()]
    held = [
        len(group) - len(left) for group, left in zip(by_structure.values(), waiting, strict=True)
    ]
    while len(chosen) < count:
        turn = min((i for i, left in enumerate(waiting) if left), key=lambda i: held[i])
        chosen.append(waiting[turn].pop())
        held[turn] += 1
    random.Random(seed).shuffle(chosen)  # noqa: S311
    return chosen


def reference(space: SearchSpace) -> PipelineConfig:
    """The configuration that runs beside every point: the plain chain with a short prefetch."""
    calls = 2 if any(axis.name == "map_parallelism" for axis in space.axes) else 1
    size = space.batch_sizes[0]
    return PipelineConfig(batch_size=size, prefetch_buffer=4, map_parallelism=calls)


def _covering(space: SearchSpace, points: Sequence[PipelineConfig]) -> list[PipelineConfig]:
    """The points, in order, that each add a value which no earlier point has."""
    seen: set[tuple[str, object]] = set()
    chosen = []
    for point in points:
        values = {(axis.name, getattr(point, axis.name)) for axis in space.axes}
        values.add(("batch_size", point.batch_size))
        if not values <= seen:
            seen |= values
            chosen.append(point)
    return chosen


def _structure(point: PipelineConfig) -> tuple[object, ...]:
    return (point.batch_size, *sorted(point.structure.items()))
