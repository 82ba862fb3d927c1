"""What `model.fit` honours, in trials like a user's, each in its own process."""

from __future__ import annotations

import pytest

from prefetch_tuning.objectives.measurement import LimitTerms
from prefetch_tuning.objectives.pipeline_info import PipelineInfo
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.spec import StopRule
from prefetch_tuning.objectives.stage_costs import StageCosts
from prefetch_tuning.pipelines.config import PipelineConfig
from tests.process.test_runner import QUICK, measured, spec

NAMES = ["Weighted", "DictFeatures", "MixedPrecision", "SeveralSteps", "Mirrored"]


def target(name: str) -> str:
    return f"tests.planted.fit:{name}"


@pytest.mark.parametrize("name", NAMES)
def test_it_can_be_tuned(runner: TrialRunner, name: str) -> None:
    info = runner.try_inspect(target(name), 0, "cpu")

    assert isinstance(info, PipelineInfo), info
    assert info.batch_sizes == [4, 8]


def test_sample_weights_weigh(runner: TrialRunner) -> None:
    assert measured(runner, spec("", pipeline=target("Weighted"))).loss == 0.0
    assert measured(runner, spec("Planted")).loss > 0.0


@pytest.mark.parametrize("name", ["DictFeatures", "MixedPrecision"])
def test_it_trains(runner: TrialRunner, name: str) -> None:
    assert 0.0 < measured(runner, spec("", pipeline=target(name))).loss < 10.0


def test_each_step_of_an_execution_counts(runner: TrialRunner) -> None:
    found = measured(runner, spec("", pipeline=target("SeveralSteps")))

    assert all(window.examples % (8 * 4) == 0 for window in found.windows)
    assert found.steps_per_s == pytest.approx(found.examples_per_s / 4)


def test_under_a_strategy_the_step_sees_the_same_batches(runner: TrialRunner) -> None:
    config = PipelineConfig(batch_size=8, prefetch_buffer=2, map_parallelism=2)
    settings = {"config": config, "digest_batches": 5, "ceilings": True}

    spread = measured(runner, spec("", pipeline=target("Mirrored"), **settings))
    plain = measured(runner, spec("Mapped", **settings))

    assert spread.digest == plain.digest
    assert spread.steps_per_s == pytest.approx(spread.examples_per_s / 8)
    assert spread.loss == 1.5  # each replica is traced once, however many batches came
    assert spread.buffer_mib == plain.buffer_mib


def test_autotunes_choices_are_not_read_under_a_strategy(runner: TrialRunner) -> None:
    """The warm-up ends, and the result doesn't claim to know what AUTOTUNE chose."""
    rule = StopRule.model_validate({**QUICK.model_dump(), "warmup_max_s": 1.0})
    autotune = {"config": PipelineConfig.autotune(8), "stop": rule, "ceilings": True}

    found = measured(runner, spec("", pipeline=target("Mirrored"), **autotune))

    assert found.autotune == []
    assert found.buffer_mib is None
    assert found.startup_s >= rule.warmup_max_s / 5
    assert found.loss == 1.5


@pytest.mark.slow
def test_the_diagnosis_and_the_limit_go_through_the_strategy(runner: TrialRunner) -> None:
    costs = runner.measure_stages(target("Mirrored"), 0, "cpu")
    terms = runner.measure_limit(target("Mirrored"), 8, 0, "cpu", vectorized=False)

    assert isinstance(costs, StageCosts), costs
    assert isinstance(terms, LimitTerms), terms
    assert costs.step.wall_s > 0
    assert terms.step_examples_per_s > 0
