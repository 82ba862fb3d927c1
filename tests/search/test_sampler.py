"""What the sampler chooses after trials that agree with the prediction, and that don't."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import optuna
import pytest

from prefetch_tuning.experiments.search.axes import offer
from prefetch_tuning.experiments.search.diagnosis import diagnose
from prefetch_tuning.experiments.search.first_trials import candidates, first_trials, is_pointless
from prefetch_tuning.experiments.search.prediction import (
    Predictor,
    Ranking,
    examples_held,
    predict,
)
from prefetch_tuning.experiments.search.sampler import PredictionSampler, broken_switches
from prefetch_tuning.experiments.search.space import SearchSpace
from prefetch_tuning.experiments.search.surrogate import MOST_TRIALS, Surrogate, Tried, telling
from prefetch_tuning.experiments.settings import Options
from prefetch_tuning.objectives.objective import Objective, Reading
from prefetch_tuning.objectives.stage_costs import StageCosts
from prefetch_tuning.objectives.throughput import Throughput
from prefetch_tuning.objectives.utilisation import Utilisation
from prefetch_tuning.pipelines.config import UNBOUNDED, PipelineConfig
from tests.search.test_first_trials import BLOCKING, CORES, UNMAPPED, WAITING, searched

STEP_RATE = 400.0
MIB_PER_EXAMPLE = 0.1


class Sampled:
    """A search whose trials measure what `rate_of` says, or fail where it says None."""

    def __init__(
        self,
        costs: StageCosts,
        space: SearchSpace,
        rate_of: Callable[[PipelineConfig], float | None],
        goal: Objective | None = None,
        limit_mib: float | None = None,
        seed: int = 0,
    ) -> None:
        self.space, self.rate_of, self.goal = space, rate_of, goal or Throughput()
        self.tried: list[Tried] = []
        ranking = Ranking(self.goal, Predictor(costs, CORES).rate, costs, CORES)
        surrogate = Surrogate(space, self.goal, ranking.reading, limit_mib)
        sampler = PredictionSampler(space, self.goal, surrogate, lambda: self.tried, seed)
        self.study = optuna.create_study(direction=self.goal.direction, sampler=sampler)

    def run(self, trials: int = 1) -> list[PipelineConfig]:
        return [self._measured(self.space.suggest(self.study.ask())) for _ in range(trials)]

    def teach(self, *configs: PipelineConfig) -> None:
        for config in configs:
            self._measured(config)

    @property
    def best(self) -> float:
        return max(tried.reading.examples_per_s for tried in self.tried if tried.reading)

    def _measured(self, config: PipelineConfig) -> PipelineConfig:
        rate, memory_mib = self.rate_of(config), MIB_PER_EXAMPLE * examples_held(config)
        cpu_s = 1e-4 * (1 + config.generator_workers)
        reading = rate and Reading(config, rate, cpu_s, STEP_RATE, memory_mib)
        self.tried.append(Tried(config, reading or None))
        return config


def made(calls: int, threads: int | str) -> PipelineConfig:
    return PipelineConfig.model_validate(
        {
            "batch_size": 8,
            "prefetch_buffer": 4,
            "map_parallelism": calls,
            "thread_pool_size": threads,
        }
    )


def blocking(share: Callable[[PipelineConfig], float], seed: int = 0) -> Sampled:
    """A blocking map that reaches this share of its prediction."""
    return Sampled(
        BLOCKING,
        searched(diagnose(BLOCKING, CORES)),
        lambda config: share(config) * predict(BLOCKING, config, CORES),
        seed=seed,
    )


def test_a_kind_that_disappoints_gives_way_to_the_next_one() -> None:
    """Unbounded threads reach a fifth of their prediction here, so a pool is tried next."""
    search = blocking(lambda config: 0.2 if config.thread_pool_size == UNBOUNDED else 1.0)
    search.teach(made(16, UNBOUNDED), made(4, 0))

    assert search.run()[0].thread_pool_size not in (0, UNBOUNDED)


def test_where_trials_agree_with_the_prediction_its_best_is_next() -> None:
    search = blocking(lambda config: 1.0)
    search.teach(made(4, 0), made(8, 16))
    best = max(predict(BLOCKING, config, CORES) for config in candidates(search.space))

    assert predict(BLOCKING, search.run()[0], CORES) > 0.97 * best


@pytest.mark.parametrize("seed", range(3))
def test_an_optimum_that_the_prediction_does_not_know_is_found(seed: int) -> None:
    """Planted: calls beyond 8 disturb each other, and so do blocks of other than 32."""

    def share(config: PipelineConfig) -> float:
        calls = max(math.log2(int(config.map_parallelism) / 8), 0.0)
        return math.exp(-0.5 * calls - 0.3 * abs(math.log2(config.generator_chunk / 32)))

    search = blocking(share, seed)
    rates = [share(c) * predict(BLOCKING, c, CORES) for c in search.space.grid()]
    search.teach(*first_trials(diagnose(BLOCKING, CORES), search.space, CORES, Throughput()))
    begin = search.best
    search.run(16)

    assert begin < 0.8 * max(rates)
    assert search.best > 0.95 * max(rates)


def test_nothing_is_tried_twice_and_nothing_that_has_no_work() -> None:
    search = blocking(lambda config: 1.0)
    chosen = search.run(30)

    assert len(set(chosen)) == len(chosen)
    assert not any(is_pointless(config) for config in chosen)


def test_a_space_that_is_used_up_is_searched_at_random() -> None:
    space = offer(UNMAPPED, Options(axes="basic", batch_size=8), None, 2.0).space
    search = Sampled(WAITING, space, lambda config: 1.0 + int(config.prefetch_buffer))
    buffers = [config.prefetch_buffer for config in search.run(70)]

    assert sorted(buffers[:64]) == list(range(1, 65))
    assert set(buffers[64:]) <= set(range(1, 65))


def test_what_fails_is_left_for_what_works() -> None:
    """Every thread beyond TensorFlow's own fails."""
    space = searched(diagnose(BLOCKING, CORES))
    search = Sampled(
        BLOCKING,
        space,
        lambda c: None if c.thread_pool_size else predict(BLOCKING, c, CORES),
    )
    assert broken_switches(search.tried) == set()
    search.teach(made(16, UNBOUNDED), made(8, UNBOUNDED), made(32, 16), made(16, 16))
    assert broken_switches(search.tried) == set()  # perhaps the pipeline is broken, not the threads
    search.teach(made(4, 0))

    assert broken_switches(search.tried) == {"threads", "pool"}
    assert all(config.thread_pool_size == 0 for config in search.run(12))
    with_threads = max(predict(BLOCKING, c, CORES) for c in candidates(space) if c.thread_pool_size)
    without = max(predict(BLOCKING, c, CORES) for c in candidates(space) if not c.thread_pool_size)
    assert with_threads > 5 * without  # so nothing but the failures speaks against threads


def test_settings_that_are_fixed_stay_and_the_others_are_chosen() -> None:
    search = blocking(lambda config: 1.0)
    search.teach(made(4, 0), made(16, UNBOUNDED))
    search.study.enqueue_trial(search.space.plain)
    [plain] = search.run()

    assert not plain.structure
    best = max(predict(BLOCKING, c, CORES) for c in candidates(search.space) if not c.structure)
    assert predict(BLOCKING, plain, CORES) > 0.9 * best


def test_larger_batches_than_one_that_the_gpu_could_not_hold_are_left_out() -> None:
    search = blocking(lambda config: 1.0)
    larger = dataclasses.replace(search.space, batch_sizes=(4, 8))
    search = Sampled(BLOCKING, larger, search.rate_of)
    assert {config.batch_size for config in search.run(10)} == {4, 8}

    search.tried.append(Tried(made(4, 0), None, lacked_device_memory=True))

    assert {config.batch_size for config in search.run(10)} == {4}


def test_what_takes_too_much_memory_is_avoided_but_not_its_limit() -> None:
    """The fastest configurations hold the most examples."""
    space = searched(diagnose(BLOCKING, CORES))
    search = Sampled(BLOCKING, space, lambda c: examples_held(c) ** 0.25, limit_mib=100.0)
    search.teach(made(2, 0), made(16, 16), made(64, UNBOUNDED), made(8, 64))
    held_mib = [MIB_PER_EXAMPLE * examples_held(config) for config in search.run(20)]

    assert sum(held > 100.0 for held in held_mib) <= 8
    assert max(held for held in held_mib if held <= 100.0) > 80.0


def test_with_a_target_the_cheapest_that_reaches_it_is_looked_for() -> None:
    """Two processes are enough; each costs CPU time."""
    options = Options(objective="utilisation", batch_size=8)
    space = offer(UNMAPPED, options, diagnose(WAITING, CORES), 2.0).space

    def rate(config: PipelineConfig) -> float:
        return min(STEP_RATE, 0.55 * STEP_RATE * max(config.generator_workers, 0.2))

    search = Sampled(WAITING, space, rate, Utilisation(0.9))
    many = PipelineConfig(batch_size=8, prefetch_buffer=4, map_parallelism=1, generator_workers=32)
    search.teach(many)
    processes = [config.generator_workers for config in search.run(10)]

    assert 2 in processes
    assert sum(number <= 4 for number in processes) >= 7


def test_far_more_trials_than_the_process_is_fitted_to_keep_the_best_and_the_latest() -> None:
    trials = [
        Tried(made(4, 0), Reading(made(4, 0), float(rate), 1e-4)) for rate in range(500, 0, -1)
    ]
    kept = telling(trials, Throughput())

    assert len(kept) == MOST_TRIALS
    assert kept == [*trials[: MOST_TRIALS // 2], *trials[-MOST_TRIALS // 2 :]]
