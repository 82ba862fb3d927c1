"""Which trials come first."""

from __future__ import annotations

import pytest

from prefetch_tuning.experiments.search.axes import offer
from prefetch_tuning.experiments.search.diagnosis import Diagnosis, diagnose
from prefetch_tuning.experiments.search.first_trials import (
    LEAST_FIRST,
    LOOK_AHEAD,
    MOST_FIRST,
    candidates,
    first_trials,
    kind,
    switched_on,
)
from prefetch_tuning.experiments.search.prediction import predict
from prefetch_tuning.experiments.search.space import SearchSpace
from prefetch_tuning.experiments.settings import Options
from prefetch_tuning.objectives.stage_costs import WAITING_CALLS
from prefetch_tuning.objectives.throughput import Throughput
from prefetch_tuning.objectives.utilisation import Utilisation
from prefetch_tuning.pipelines.config import UNBOUNDED
from prefetch_tuning.pipelines.step_time import StepTime
from tests.search.test_space import ABLE
from tests.support.fakes import COSTS, INFO, cost

CORES = 2
BLOCKING = COSTS.model_copy(
    update={
        "map": cost(4_000.0, cpu_us=40.0),
        "map_is_python": True,
        "map_speedup": 1.2,
        "waiting_speedup": 12.0,
        "waiting_calls": 32,
    }
)


def searched(diagnosis: Diagnosis) -> SearchSpace:
    return offer(ABLE, Options(), diagnosis, 2.0).space


def test_without_structure_they_are_the_best_predicted_of_different_kinds() -> None:
    diagnosis = diagnose(COSTS, CORES)
    space = offer(INFO, Options(), diagnosis, 2.0).space
    found = first_trials(diagnosis, space, CORES, Throughput())

    assert len(found) == LEAST_FIRST
    assert len({kind(config, CORES) for config in found}) == len(found)
    best = max(predict(COSTS, config, CORES) for config in space.grid())
    assert predict(COSTS, found[0], CORES) > 0.95 * best
    # Of equally fast ones, the leanest that has calls to spare is first: half of its 4 would do.
    assert int(found[0].map_parallelism) == 4
    assert {config.prefetch_buffer for config in found} <= set(LOOK_AHEAD)


def test_a_map_that_waits_is_tried_with_threads_first() -> None:
    diagnosis = diagnose(BLOCKING, CORES)
    found = first_trials(diagnosis, searched(diagnosis), CORES, Throughput())

    assert (diagnosis.bottleneck, diagnosis.stage) == ("blocking", "map")
    assert found[0].thread_pool_size != 0
    assert int(found[0].map_parallelism) >= 12
    assert {config.thread_pool_size == UNBOUNDED for config in found[:2]} == {True, False}


def test_calls_go_far_beyond_the_cores_where_the_map_waits() -> None:
    waiting, busy = (
        next(
            a
            for a in offer(ABLE, Options(), diagnosis, 2.0).space.axes
            if a.name == "map_parallelism"
        )
        for diagnosis in (diagnose(BLOCKING, CORES), diagnose(COSTS, CORES))
    )

    assert waiting.high >= WAITING_CALLS == 64
    assert busy.high < WAITING_CALLS


@pytest.mark.parametrize(
    "costs",
    [
        COSTS,
        BLOCKING,
        COSTS.model_copy(update={"generator": cost(4_000.0, cpu_us=40.0)}),
        COSTS.model_copy(update={"generator": cost(4_000.0)}),
        COSTS.model_copy(update={"map": cost(4_000.0)}),
        COSTS.model_copy(update={"step": cost(400.0, cpu_us=750.0)}),
    ],
    ids=lambda costs: diagnose(costs, CORES).bottleneck,
)
def test_whatever_the_space_offers_has_a_place_and_so_has_the_plain_chain(costs: object) -> None:
    diagnosis = diagnose(costs, CORES)  # type: ignore[arg-type]
    space = searched(diagnosis)
    found = first_trials(diagnosis, space, CORES, Throughput())

    assert len(found) <= MOST_FIRST
    assert len(set(found)) == len(found)
    offered = {switch for config in candidates(space) for switch in switched_on(config)}
    assert offered
    assert {switch for config in found for switch in switched_on(config)} == offered
    assert any(not config.structure for config in found)
    assert all(space.params(config) for config in found)


WAITING = COSTS.model_copy(
    update={
        "generator": cost(5_000.0, cpu_us=20.0),
        "from_generator": cost(60.0),
        "map": None,
        "step": cost(2_500.0, cpu_us=0.0),
        "step_s": {8: 0.02},
        "emulated": StepTime(per_example_ms=2.5),
        "batch_size": 8,
        "chunk": 8,
        "chunked": cost(10.0),
        "loops": [],
    }
)
OF_A_MAP = ("vectorized_map", "thread_pool_size", "max_intra_op_parallelism")
UNMAPPED = ABLE.model_copy(
    update={
        "has_transform": False,
        "axes": ["generator_chunk", "generator_workers"],
        "not_offered": {**ABLE.not_offered, **dict.fromkeys(OF_A_MAP, "there is no map")},
    }
)


def test_with_a_target_the_cheapest_that_is_predicted_to_reach_it_comes_first() -> None:
    """One process makes half of what the step takes; with two, it never waits."""
    goal = Utilisation(0.9)
    diagnosis = diagnose(WAITING, CORES)
    options = Options(objective="utilisation", batch_size=8)
    space = offer(UNMAPPED, options, diagnosis, 2.0).space
    found = first_trials(diagnosis, space, CORES, goal)
    rates = [predict(WAITING, config, CORES) / 400.0 for config in found]

    # Three reach it by the reserve: two would have 1.0 minus what a small buffer doesn't cover.
    assert found[0].generator_workers in (2, 3)
    assert rates[0] * 0.95 >= 0.9
    # All of them need a few hundredths of a core, so blocks would gain nothing.
    assert found[0].generator_chunk == 1


def test_a_busy_step_can_be_fed_for_less_so_its_structure_is_searched() -> None:
    costs = WAITING.model_copy(update={"generator": cost(100.0, cpu_us=90.0)})
    diagnosis = diagnose(costs, CORES)
    assert diagnosis.bottleneck == "step-bound"

    by_rate = offer(UNMAPPED, Options(batch_size=8), diagnosis, 2.0)
    by_cost = offer(UNMAPPED, Options(objective="utilisation", batch_size=8), diagnosis, 2.0)

    assert "generator_chunk" in by_rate.left_out
    assert "generator_chunk" in [axis.name for axis in by_cost.space.axes]


def test_the_plain_chain_is_the_second_at_the_latest() -> None:
    """Three trials that fail end a search, and all could have the same faulty structure."""
    diagnosis = diagnose(BLOCKING, CORES)
    found = first_trials(diagnosis, searched(diagnosis), CORES, Throughput())

    assert found[0].structure
    assert not found[1].structure
    assert len(set(found)) == len(found) <= MOST_FIRST
