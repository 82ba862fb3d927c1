"""The map's term in the limit: the least processor time of all the ways to run it."""

from __future__ import annotations

from typing import Any, cast

import pytest

from prefetch_tuning.objectives.stage_costs import StageCost
from prefetch_tuning.objectives.stages.chains import StageChains
from prefetch_tuning.objectives.stages.limit_terms import (
    IN_THREADS,
    ON_ONE_THREAD,
    _least_map_cpu_s,
)
from tests.support.fakes import cost


class Chains:
    """Costs by the map's settings; batches without a map cost 2 µs per example."""

    def __init__(self, sequential: StageCost, other: StageCost, in_batches: StageCost) -> None:
        self._sequential, self._other, self._in_batches = sequential, other, in_batches
        self.asked: list[dict[str, Any]] = []

    def batched(self) -> StageCost:
        return cost(2.0)

    def mapped(self, **settings: Any) -> StageCost:
        self.asked.append(settings)
        return self._other if settings else self._sequential

    def mapped_in_batches(self) -> StageCost:
        return self._in_batches


@pytest.mark.parametrize(
    ("sequential", "other", "in_batches", "vectorized", "least_us"),
    [
        (cost(52.0), cost(23.0), cost(12.0), False, 21.0),
        (cost(52.0), cost(60.0), cost(12.0), False, 50.0),
        (cost(52.0), cost(23.0), cost(12.0), True, 10.0),
    ],
)
def test_a_map_that_computes_is_tried_on_a_single_thread(
    sequential: StageCost,
    other: StageCost,
    in_batches: StageCost,
    vectorized: bool,
    least_us: float,
) -> None:
    chains = Chains(sequential, other, in_batches)

    least = _least_map_cpu_s(cast("StageChains", chains), vectorized=vectorized)

    assert least == pytest.approx(1e-6 * least_us)
    assert chains.asked == [{}, ON_ONE_THREAD]


def test_a_map_that_waits_is_tried_on_threads_of_its_own() -> None:
    chains = Chains(cost(4_000.0, 300.0), cost(70.0, 42.0), cost(1.0))

    least = _least_map_cpu_s(cast("StageChains", chains), vectorized=False)

    assert least == pytest.approx(40e-6)
    assert chains.asked == [{}, IN_THREADS]
