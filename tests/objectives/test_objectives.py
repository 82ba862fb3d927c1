"""What a study optimises: values, targets and order, from made-up readings."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import get_args

import pytest

from prefetch_tuning.objectives.named import ObjectiveName, objective
from prefetch_tuning.objectives.objective import Reading
from prefetch_tuning.pipelines.config import PipelineConfig

CONFIG = PipelineConfig(batch_size=8, prefetch_buffer=2, map_parallelism=1)


def reading(rate: float, cpu_us: float = 1_000.0, step: float = 1_000.0) -> Reading:
    return Reading(CONFIG, rate, cpu_us / 1e6, step, host_peak_mib=10.0)


def test_each_name_makes_the_objective_of_this_name() -> None:
    for name in get_args(ObjectiveName):
        assert objective(name, 0.8).name == name


def test_throughput_is_the_rate_and_misses_nothing() -> None:
    goal = objective("throughput", 0.9)

    assert (goal.direction, goal.target) == ("maximize", None)
    assert goal.value(reading(500.0, step=math.nan)) == 500.0
    assert goal.shortfall(reading(1.0)) == 0.0
    assert sorted([reading(1.0), reading(3.0), reading(2.0)], key=goal.order)[0] == reading(3.0)
    assert goal.shown(reading(12_345.0)) == "12,345 examples/s"


def test_utilisation_is_the_cores_that_feeding_the_step_takes() -> None:
    goal = objective("utilisation", 0.9)

    assert (goal.direction, goal.target) == ("minimize", 0.9)
    # 1 ms per example for a step of 1,000 examples/s, however fast the configuration itself is.
    assert goal.value(reading(950.0)) == goal.value(reading(400.0)) == pytest.approx(1.0)
    assert goal.shortfall(reading(950.0)) == pytest.approx(-0.05)
    assert goal.shortfall(reading(400.0)) == pytest.approx(0.5)
    assert goal.shown(reading(950.0, cpu_us=1_234.0)) == "95% busy with 1.23 cores"


def test_who_reaches_the_target_comes_first_then_who_is_nearest_to_it() -> None:
    goal = objective("utilisation", 0.9)
    cheap, dear = reading(920.0, cpu_us=300.0), reading(999.0, cpu_us=800.0)
    near, far = reading(890.0, cpu_us=500.0), reading(100.0, cpu_us=1.0)

    assert sorted([far, near, dear, cheap], key=goal.order) == [cheap, dear, near, far]


def test_equal_values_are_ordered_by_processes_then_by_memory() -> None:
    goal = objective("utilisation", 0.9)
    alone = replace(reading(950.0, cpu_us=20.0), host_peak_mib=30.0)
    lean = replace(alone, cpu_s_per_example=25e-6, host_peak_mib=20.0)
    split = CONFIG.model_copy(update={"generator_workers": 2})
    apart = replace(alone, config=split, cpu_s_per_example=10e-6, host_peak_mib=10.0)

    assert sorted([apart, alone, lean], key=goal.order) == [lean, alone, apart]


def test_processes_are_the_generators_or_the_datasets() -> None:
    split = CONFIG.model_copy(update={"generator_workers": 3})
    threads = CONFIG.model_copy(update={"workers": 4})
    own = CONFIG.model_copy(update={"workers": 4, "use_multiprocessing": True})

    assert [Reading(c, 1.0, 0.0).processes for c in (CONFIG, split, threads, own)] == [0, 3, 0, 4]


def test_values_that_differ_by_less_than_counts_are_equal() -> None:
    goal = objective("utilisation", 0.9)

    assert not goal.is_better(0.01, 0.04)  # less than a twentieth of a core
    assert goal.is_better(0.3, 0.4)
    assert not goal.is_better(2.9, 3.0)  # less than 5%
    assert goal.is_better(2.5, 3.0)
    assert not goal.is_better(3.0, 2.5)
    assert (
        goal.level(0.01) == goal.level(0.04) < goal.level(0.3) < goal.level(2.0) < goal.level(3.0)
    )
    rates = objective("throughput", 0.9)
    assert rates.is_better(1_100.0, 1_000.0)
    assert not rates.is_better(1_040.0, 1_000.0)
    assert rates.level(2_000.0) < rates.level(1_000.0)
