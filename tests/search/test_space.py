"""Which axes a pipeline is offered, and which configurations its search space has."""

from __future__ import annotations

from collections.abc import Mapping

import optuna
import pytest

from prefetch_tuning.experiments.search.axes import CHUNK_BYTES, offer
from prefetch_tuning.experiments.search.diagnosis import diagnose
from prefetch_tuning.experiments.search.prediction import predict
from prefetch_tuning.experiments.search.space import Axis, SearchSpace
from prefetch_tuning.experiments.settings import Options
from prefetch_tuning.objectives.stage_costs import StageCosts
from prefetch_tuning.pipelines.config import STRUCTURE, PipelineConfig
from tests.support.fakes import COSTS, INFO, cost

# A pipeline that supports every axis of an endless generator without a GPU.
AGAINST = {"device_prefetch": "there is no GPU", "cache": "it has epochs without an end"}
ORDER = "it changes the order of the elements, which --allow-reorder permits"
POSSIBLE = [name for name in STRUCTURE if name not in AGAINST]
ABLE = INFO.model_copy(
    update={"axes": ["map_parallelism", *POSSIBLE], "not_offered": AGAINST},
)


def study() -> optuna.Study:
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))


def offered(costs: Mapping[str, object] | None = None, options: Options | None = None) -> set[str]:
    diagnosis = diagnose(COSTS.model_copy(update=costs), 2) if costs else None
    found = offer(ABLE, options or Options(), diagnosis, 2.0)
    names = {axis.name for axis in found.space.axes}
    assert not names & found.left_out.keys()
    assert names | found.left_out.keys() >= set(STRUCTURE)
    return names


def test_suggestions_stay_inside_and_reach_the_ends() -> None:
    axes = (
        Axis.range("prefetch_buffer", 4),
        Axis.range("map_parallelism", 3),
        Axis.of("vectorized_map", False, True),
    )
    space = SearchSpace(batch_sizes=(4, 8), axes=axes)
    created = study()

    configs = {space.suggest(created.ask()) for _ in range(400)}

    assert {c.batch_size for c in configs} == {4, 8}
    assert {c.prefetch_buffer for c in configs} == {1, 2, 3, 4}
    assert {c.map_parallelism for c in configs} == {1, 2, 3}
    assert {c.vectorized_map for c in configs} == {False, True}
    assert {c.generator_chunk for c in configs} == {1}


def test_a_configuration_and_its_parameters_are_the_same() -> None:
    space = offer(ABLE, Options(), None, 2.0).space
    created = study()
    config = space.suggest(created.ask())

    created.enqueue_trial(space.params(config))

    assert space.suggest(created.ask()) == config


@pytest.mark.parametrize(
    ("generator_us", "batch_size", "most"),
    [
        (2_000, 16, 25),  # 50 ms of the generator's time is more than a batch
        (2_000, 64, 64),  # a batch is more
        (1, 32, 1_024),  # the axis's own bound
    ],
)
def test_a_block_holds_a_batch_or_what_the_generator_makes_in_50_ms(
    generator_us: float, batch_size: int, most: int
) -> None:
    costs = COSTS.model_copy(update={"generator": cost(generator_us)})
    found = offer(ABLE, Options(batch_size=batch_size), diagnose(costs, 2), 2.0)
    axis = next(a for a in found.space.axes if a.name == "generator_chunk")
    created = study()
    created.enqueue_trial({"generator_chunk": 1_024})

    largest = found.space.suggest(created.ask()).generator_chunk
    grid = list(found.space.grid(generator_chunk=(1, 1_024)))

    assert axis.high == 1_024
    assert largest == most
    alone = [config for config in grid if not config.generator_workers]
    assert {config.generator_chunk for config in alone} == {1, most}
    assert len(set(grid)) == len(grid)
    # Processes make their parts of a block at the same time, so it takes no longer.
    shared = {c.generator_chunk for c in grid if c.generator_workers == 2}
    both_make = int(2 * 50_000 / generator_us)
    assert not shared or max(shared) == max(min(both_make, 1_024), batch_size)


def test_the_plain_chain_is_a_part_of_the_space() -> None:
    space = offer(ABLE, Options(), None, 2.0).space
    created = study()
    created.enqueue_trial(space.plain)

    assert space.suggest(created.ask()).structure == {}
    assert offer(ABLE, Options(axes="basic"), None, 2.0).space.plain == {}


def test_a_pipeline_without_a_map_has_no_such_axis() -> None:
    space = offer(INFO.model_copy(update={"axes": []}), Options(), None, 2.0).space
    trial = study().ask()

    assert space.suggest(trial).map_parallelism == 1
    assert "map_parallelism" not in trial.params


def test_a_fixed_batch_size_is_no_axis() -> None:
    space = offer(INFO, Options(batch_size=48), None, 2.0).space
    trial = study().ask()

    assert space.suggest(trial).batch_size == 48
    assert "batch_size" not in trial.params


def test_the_map_may_have_more_calls_in_flight_than_cores() -> None:
    found = {axis.name: axis for axis in offer(ABLE, Options(), None, 16.0).space.axes}

    assert found["map_parallelism"].high == 64


def test_the_grid_has_powers_of_two() -> None:
    axes = (Axis.range("prefetch_buffer", 5), Axis.range("map_parallelism", 2))

    assert list(SearchSpace(batch_sizes=(4,), axes=axes).grid()) == [
        PipelineConfig(batch_size=4, prefetch_buffer=buffer, map_parallelism=calls)
        for buffer in (1, 2, 4)
        for calls in (1, 2)
    ]


def test_basic_axes_are_all_there_is_if_asked_for() -> None:
    assert offered(options=Options(axes="basic")) == {"prefetch_buffer", "map_parallelism"}


def test_without_a_diagnosis_everything_possible_is_offered() -> None:
    every = {"prefetch_buffer", "map_parallelism", *POSSIBLE}

    assert offered(options=Options(allow_reorder=True)) == every
    assert offered() == every - {"reorder"}


@pytest.mark.parametrize(("generator_us", "is_offered"), [(1_000.0, True), (1.0, False)])
def test_a_cache_is_offered_if_the_generator_takes_time(
    generator_us: float, is_offered: bool
) -> None:
    can = ABLE.model_copy(update={"axes": [*ABLE.axes, "cache"], "not_offered": {}})
    stages = {"generator": cost(generator_us), "from_generator": cost(1.0), "map": cost(2_000.0)}
    diagnosis = diagnose(COSTS.model_copy(update=stages), 2)
    found = offer(can, Options(), diagnosis, 2.0)

    assert ("cache" in {axis.name for axis in found.space.axes}) == is_offered
    if is_offered:
        cached = PipelineConfig(batch_size=8, prefetch_buffer=4, map_parallelism=1, cache=True)
        plain = cached.model_copy(update={"cache": False})
        assert predict(diagnosis.costs, cached, 2.0) > 1.3 * predict(diagnosis.costs, plain, 2.0)


def test_handing_over_counts_beside_waiting_that_can_be_hidden() -> None:
    """Measured: with 64 calls in flight, blocks give 1.8 times the rate.

    Without the calls, handing elements over takes only 3% of the time here.
    """
    waits = {"map": cost(4_300.0, 325.0), "from_generator": cost(112.0, 141.0)}

    assert "generator_chunk" in offered(waits)
    assert "generator_chunk" not in offered(waits | {"map": cost(4_300.0)})


def test_a_generator_that_waits_hides_handing_over_only_in_one_process() -> None:
    waits = {"generator": cost(4_300.0, 30.0), "from_generator": cost(112.0, 141.0)}
    diagnosis = diagnose(COSTS.model_copy(update=waits), 2)
    whole = ABLE.model_copy(
        update={
            "axes": ["generator_chunk"],
            "not_offered": {"generator_workers": "generate takes no shard_index"},
        }
    )

    assert "generator_chunk" in {
        axis.name for axis in offer(ABLE, Options(), diagnosis, 2.0).space.axes
    }
    assert offer(whole, Options(), diagnosis, 2.0).left_out["generator_chunk"] == (
        "handing elements to tf.data takes 3% of the time"
    )


def test_a_generator_counts_beside_a_map_whose_waiting_threads_hide() -> None:
    busy = {"generator": cost(300.0), "map": cost(4_300.0, 325.0), "chunked": cost(5.0)}

    assert "generator_workers" in offered(busy)
    assert "generator_workers" not in offered(busy | {"map": cost(4_300.0)})


def test_what_the_pipeline_cannot_take_is_left_out_with_its_reason() -> None:
    unable = ABLE.model_copy(update={"not_offered": {"vectorized_map": "it looks at one row"}})

    found = offer(unable, Options(), None, 2.0)

    assert found.left_out == {"vectorized_map": "it looks at one row", "reorder": ORDER}


def test_the_order_changes_only_if_it_may_and_there_is_a_map_worth_it() -> None:
    may = Options(allow_reorder=True)

    assert "reorder" not in offered({"map": cost(100.0)})
    assert "reorder" in offered({"map": cost(100.0)}, may)
    assert "reorder" not in offered({"map": cost(1.0)}, may)


@pytest.mark.parametrize(
    ("costs", "name", "is_offered"),
    [
        ({"from_generator": cost(200.0)}, "generator_chunk", True),
        ({"from_generator": cost(1.0)}, "generator_chunk", False),
        ({"map": cost(100.0)}, "vectorized_map", True),
        ({"map": cost(1.0)}, "vectorized_map", False),
        ({"generator": cost(100.0)}, "generator_workers", True),
        ({"generator": cost(10.0)}, "generator_workers", False),
        ({"map": cost(100.0, cpu_us=10.0)}, "thread_pool_size", True),
        ({"map": cost(100.0)}, "thread_pool_size", False),
        ({"step": cost(1_000.0)}, "generator_chunk", False),
    ],
    ids=str,
)
def test_the_diagnosis_decides_what_is_worth_an_axis(
    costs: dict[str, object], name: str, is_offered: bool
) -> None:
    assert (name in offered(costs)) == is_offered


@pytest.mark.parametrize(
    ("costs", "is_offered"),
    [
        ({"device_copy": cost(20.0)}, True),
        ({"device_copy": cost(2.0)}, False),
        # The step takes most of the time, but it waits for a copy before each batch.
        ({"device_copy": cost(80.0), "step": cost(1_000.0)}, True),
        ({"device_copy": cost(20.0), "step": cost(1_000.0)}, False),
    ],
    ids=str,
)
def test_copying_ahead_is_worth_what_the_copy_takes_beside_the_step(
    costs: dict[str, object], is_offered: bool
) -> None:
    on_gpu = INFO.model_copy(update={"axes": ["map_parallelism", *STRUCTURE], "not_offered": {}})

    found = offer(on_gpu, Options(), diagnose(COSTS.model_copy(update=costs), 2), 2.0)

    assert ("device_prefetch" in {axis.name for axis in found.space.axes}) == is_offered
    assert ("device_prefetch" in found.left_out) != is_offered


def test_a_waiting_generator_gets_more_processes_than_there_are_cores() -> None:
    def most(costs: StageCosts) -> object:
        found = offer(ABLE, Options(), diagnose(costs, 2), 2.0).space.axes
        return max(a.choices for a in found if a.name == "generator_workers")[-1]

    waiting = COSTS.model_copy(update={"generator": cost(5_000.0, cpu_us=50.0)})
    computing = COSTS.model_copy(update={"generator": cost(5_000.0)})

    assert most(waiting) == 32
    assert most(computing) != 32


def test_chunks_of_large_elements_are_bounded_by_their_bytes() -> None:
    large = ABLE.model_copy(update={"element_bytes": CHUNK_BYTES // 8})
    axes = {axis.name: axis for axis in offer(large, Options(), None, 2.0).space.axes}

    assert axes["generator_chunk"].high == 8


def test_batch_sizes_that_do_not_fit_on_the_device_are_not_searched() -> None:
    """Of two sizes, the diagnosis could run the step on the smaller one only."""
    found = diagnose(COSTS.model_copy(update={"step_s": {4: 300e-6}, "batch_size": 4}), 2)

    assert offer(INFO, Options(), found, 2.0).space.batch_sizes == (4,)
    assert offer(INFO, Options(), diagnose(COSTS, 2), 2.0).space.batch_sizes == (4, 8)
    assert offer(INFO, Options(), None, 2.0).space.batch_sizes == (4, 8)
    # A batch size that the user asked for is tried anyway.
    assert offer(INFO, Options(batch_size=8), found, 2.0).space.batch_sizes == (8,)
