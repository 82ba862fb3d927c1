"""What the stages of a PyDataset cost, and what limits it."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from prefetch_tuning.experiments.search.diagnosis import (
    PY_DATASET_ADVICE,
    PY_DATASET_IN_WORDS,
    diagnose,
    stages,
)
from prefetch_tuning.experiments.verdict.limit import LimitRounds
from prefetch_tuning.objectives.measurement import LimitTerms, TrialFailure
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.stage_costs import StageCosts
from prefetch_tuning.pipelines.cores import usable_cores
from tests.adapters.test_own_chains import CHAIN, WAITING, WAITING_LONG, load
from tests.planted.chains import Waiting
from tests.search.test_workers import CORES, SIZE, WAITS
from tests.support.fakes import cost


@pytest.mark.parametrize(
    ("changes", "bottleneck", "stage"),
    [
        ({}, "blocking", "generator"),
        ({"generator": cost(2_500.0)}, "generator-gil", "generator"),
        ({"from_generator": cost(3_000.0)}, "element-overhead", "from_generator"),
        (
            {"generator": cost(2_500.0), "step": cost(4_000.0, cpu_us=8_000.0)},
            "shared-cores",
            "generator",
        ),
    ],
)
def test_the_words_are_those_of_a_py_dataset(
    changes: dict[str, Any], bottleneck: str, stage: str
) -> None:
    found = diagnose(WAITS.model_copy(update=changes), CORES)

    assert (found.bottleneck, found.stage) == (bottleneck, stage)
    assert found.advice == PY_DATASET_ADVICE[found.bottleneck]
    assert found.in_words == PY_DATASET_IN_WORDS.get(found.bottleneck, found.in_words)
    assert list(stages(found.costs)) == ["generator", "from_generator", "step"]


def test_bare_batches_go_round_and_round_in_this_thread() -> None:
    batches = load(WAITING).bare_batches(0)

    assert batches is not None
    firsts = [int(x[0, 0]) for x, _ in itertools.islice(batches, Waiting.BATCHES + 2)]
    assert firsts == [*range(Waiting.BATCHES), 0, 1]


def test_a_function_that_builds_its_own_dataset_has_no_stages(runner: TrialRunner) -> None:
    found = runner.measure_stages(CHAIN, 0, "cpu")
    terms = runner.measure_limit(CHAIN, 2, 0, "cpu", vectorized=False)

    assert isinstance(found, TrialFailure)
    assert "it builds its own chain" in found.detail
    assert isinstance(terms, LimitTerms)
    assert terms.generator_examples_per_s is None
    assert load(CHAIN).bare_batches(0) is None


@pytest.mark.timing
@pytest.mark.parametrize("target", [WAITING, WAITING_LONG])
def test_a_py_dataset_that_waits_is_found_to(runner: TrialRunner, target: str) -> None:
    costs = runner.measure_stages(target, 0, "cpu")

    assert isinstance(costs, StageCosts), costs
    found = diagnose(costs, usable_cores())
    assert (found.bottleneck, found.stage) == ("blocking", "generator")
    # 20 ms per batch of 8 examples: a sleep never takes less, and on a busy host it takes more.
    assert 0.002 < costs.generator.wall_s < 0.006
    assert costs.step_s.keys() == {SIZE}
    assert costs.measured_s > 0.3
    assert [loop.prefetch_buffer for loop in costs.loops] == [4]


@pytest.mark.timing
def test_the_limit_of_a_py_dataset_is_its_own_rate_times_its_workers(runner: TrialRunner) -> None:
    terms = runner.measure_limit(WAITING_LONG, SIZE, 0, "cpu", vectorized=False)

    assert isinstance(terms, LimitTerms), terms
    assert terms.generator_examples_per_s is not None
    assert 0.4 < terms.generator_examples_per_s / (SIZE / Waiting.WAIT_S) <= 1.0
    limit = LimitRounds([terms], usable_cores(), splittable=True).limit
    assert limit is not None
    assert limit.processes > 8
