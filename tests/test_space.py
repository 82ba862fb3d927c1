from __future__ import annotations

import optuna
import pytest

from experiments.space import SearchSpace
from pipelines.config import PipelineConfig
from tests.fakes import INFO


def study() -> optuna.Study:
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))


def test_suggestions_stay_inside_and_reach_the_ends() -> None:
    space = SearchSpace(batch_sizes=(4, 8), max_prefetch=4, max_map_parallelism=3)
    created = study()

    configs = {space.suggest(created.ask()) for _ in range(300)}

    assert {c.batch_size for c in configs} == {4, 8}
    assert {c.prefetch_buffer for c in configs} == {1, 2, 3, 4}
    assert {c.map_parallelism for c in configs} == {1, 2, 3}


def test_a_pipeline_without_a_map_has_no_such_axis() -> None:
    space = SearchSpace.for_pipeline(INFO.model_copy(update={"has_transform": False}))
    trial = study().ask()

    assert space.suggest(trial).map_parallelism == 1
    assert "map_parallelism" not in trial.params


def test_a_fixed_batch_size_is_no_axis() -> None:
    space = SearchSpace.for_pipeline(INFO, batch_size=48)
    trial = study().ask()

    assert space.suggest(trial).batch_size == 48
    assert "batch_size" not in trial.params


def test_the_map_may_have_more_calls_in_flight_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(16)))

    assert SearchSpace.for_pipeline(INFO).max_map_parallelism == 64


def test_the_grid_has_powers_of_two() -> None:
    space = SearchSpace(batch_sizes=(4,), max_prefetch=5, max_map_parallelism=2)

    assert list(space.grid()) == [
        PipelineConfig(batch_size=4, prefetch_buffer=buffer, map_parallelism=calls)
        for buffer in (1, 2, 4)
        for calls in (1, 2)
    ]
