"""What a PyDataset's stage costs predict for its workers, and which workers are tried first."""

from __future__ import annotations

from typing import Any

import pytest

from prefetch_tuning.experiments.search.axes import WAITING_WORKERS, offer
from prefetch_tuning.experiments.search.diagnosis import diagnose
from prefetch_tuning.experiments.search.first_trials import (
    QUEUES,
    candidates,
    first_trials,
    switched_on,
)
from prefetch_tuning.experiments.search.prediction import predict
from prefetch_tuning.experiments.search.space import SearchSpace
from prefetch_tuning.experiments.search.stage_seconds import UNCOVERED
from prefetch_tuning.experiments.settings import Options
from prefetch_tuning.objectives.stage_costs import StageCosts
from prefetch_tuning.objectives.throughput import Throughput
from prefetch_tuning.pipelines.config import STRUCTURE, PipelineConfig
from tests.support.fakes import COSTS, INFO, cost

CORES = 2
SIZE = 8
INFO_OF_A_SEQUENCE = INFO.model_copy(
    update={
        "kind": "batches",
        "batch_sizes": [SIZE],
        "has_transform": False,
        "axes": ["workers", "use_multiprocessing", "max_queue_size"],
        "not_offered": dict.fromkeys(STRUCTURE, "the pipeline builds its own chain"),
    }
)
NONE = {"map": None, "batch": cost(0.0), "batch_size": SIZE, "step_s": {SIZE: SIZE * 50e-6}}
WAITS = COSTS.model_copy(
    update={**NONE, "generator": cost(2_500.0, cpu_us=20.0), "from_generator": cost(30.0)}
    | {"py_dataset": True}
)
COMPUTES = WAITS.model_copy(update={"generator": cost(2_500.0)})


def us(costs: StageCosts, workers: int, *, cores: float = 64, **more: Any) -> float:
    """Predicted microseconds per example."""
    settings = {"prefetch_buffer": 0, "map_parallelism": 1, "max_queue_size": 64, **more}
    config = PipelineConfig.model_validate({"batch_size": SIZE, "workers": workers, **settings})
    return 1e6 / predict(costs, config, cores)


def space_of(costs: StageCosts) -> SearchSpace:
    return offer(INFO_OF_A_SEQUENCE, Options(), diagnose(costs, CORES), CORES).space


def test_without_workers_all_stages_add_up() -> None:
    for workers in (0, 1):
        assert us(WAITS, workers) == pytest.approx(2_500 + 30 + 50)
        assert us(WAITS, workers, use_multiprocessing=True) == us(WAITS, workers)
    assert us(WAITS, 1, prefetch_buffer=4) == pytest.approx(2_530 + UNCOVERED * 50 / 4)


def test_workers_wait_beside_each_other_and_beside_the_step() -> None:
    uncovered = UNCOVERED * 50 / 64

    assert us(WAITS, 5) == pytest.approx(500 + uncovered)
    assert us(WAITS, 5, use_multiprocessing=True) == pytest.approx(500 + uncovered)
    assert us(WAITS, 5, prefetch_buffer=4) == pytest.approx(500 + UNCOVERED * 50 / 68)
    # 64 workers need only 39 per example, so the step's 50 limits.
    assert us(WAITS, 64) == pytest.approx(50 + UNCOVERED * 2_500 / 64 / 64)


def test_threads_share_a_gil_and_processes_the_cores() -> None:
    uncovered = UNCOVERED * 50 / 64

    assert us(COMPUTES, 4) == pytest.approx(2_500 + uncovered)
    assert us(COMPUTES, 4, use_multiprocessing=True) == pytest.approx(625 + uncovered)
    # 2,500 + 30 + 50 of processor time on two cores.
    assert us(COMPUTES, 4, cores=2, use_multiprocessing=True) == pytest.approx(2_580 / 2)
    # NumPy computes in its own threads, so processor time exceeds the clock's. Workers don't make
    # the generator slower than it is alone.
    spread = COMPUTES.model_copy(update={"generator": cost(2_500.0, cpu_us=9_000.0)})
    assert us(spread, 4) == pytest.approx(2_500 + uncovered)


def test_a_short_queue_keeps_workers_idle() -> None:
    # Keras has two more batches under way than the queue holds, so 5 workers are busy.
    assert us(WAITS, 32, max_queue_size=3) == pytest.approx(2_500 / 5 + UNCOVERED * 50 / 3)


def test_workers_are_offered_by_whether_they_wait() -> None:
    def most(costs: StageCosts | None) -> object:
        diagnosis = diagnose(costs, CORES) if costs else None
        axes = offer(INFO_OF_A_SEQUENCE, Options(), diagnosis, CORES).space.axes
        return next(axis.choices for axis in axes if axis.name == "workers")[-1]

    assert most(WAITS) == WAITING_WORKERS[-1] == 32
    assert most(COMPUTES) == 2 * CORES
    assert most(None) == 8 * CORES


@pytest.mark.parametrize("costs", [WAITS, COMPUTES], ids=["waits", "computes"])
def test_the_first_trials_hold_workers_in_threads_and_in_processes(costs: StageCosts) -> None:
    space = space_of(costs)
    found = first_trials(diagnose(costs, CORES), space, CORES, Throughput())

    assert {switch for config in found for switch in switched_on(config)} == {
        "workers",
        "worker processes",
    }
    assert any(config.workers == 1 for config in found)
    assert found[0].use_multiprocessing == (costs is COMPUTES)
    assert {config.max_queue_size for config in found} <= set(QUEUES)
    assert all(space.params(config) for config in found)


def test_what_a_single_worker_cannot_use_is_one_candidate() -> None:
    alone = [config for config in candidates(space_of(WAITS)) if config.workers == 1]

    assert {(c.use_multiprocessing, c.max_queue_size) for c in alone} == {(False, QUEUES[0])}
