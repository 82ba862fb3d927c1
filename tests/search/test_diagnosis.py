"""The bottleneck's class, from made-up costs and on pipelines with a planted bottleneck."""

from __future__ import annotations

from typing import Any

import pytest

from prefetch_tuning.experiments.search.diagnosis import ADVICE, IN_WORDS, diagnose, stages
from prefetch_tuning.objectives.measurement import TrialFailure
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.stage_costs import StageCosts
from prefetch_tuning.pipelines.cores import usable_cores
from tests.support.fakes import COSTS, cost


class Planted(dict[str, StageCosts]):
    """The latest costs of each planted pipeline, measured on first access."""

    def __init__(self, runner: TrialRunner) -> None:
        self._runner = runner

    def __missing__(self, name: str) -> StageCosts:
        return self.measure(name)

    def measure(self, name: str) -> StageCosts:
        measured = self._runner.measure_stages(f"tests.planted.costs:{name}", 0, "cpu")
        assert isinstance(measured, StageCosts), measured
        self[name] = measured
        return measured


@pytest.fixture(scope="module")
def planted(runner: TrialRunner) -> Planted:
    return Planted(runner)


def costs(**changes: Any) -> StageCosts:
    return COSTS.model_copy(update=changes)


@pytest.mark.parametrize(
    ("changes", "bottleneck", "stage"),
    [
        ({}, "element-overhead", "from_generator"),
        ({"generator": cost(400)}, "generator-gil", "generator"),
        ({"generator": cost(400, 20)}, "blocking", "generator"),
        ({"map": cost(400)}, "map-cpu", "map"),
        ({"map": cost(400, 20)}, "blocking", "map"),
        ({"map": cost(400), "map_is_python": True, "map_speedup": 1.1}, "map-gil", "map"),
        # NumPy releases the GIL while it computes, so more calls do help this Python map.
        ({"map": cost(400), "map_is_python": True, "map_speedup": 1.8}, "map-cpu", "map"),
        ({"map": None}, "element-overhead", "from_generator"),
        ({"step": cost(312)}, "step-bound", "step"),
        ({"step": cost(311)}, "element-overhead", "from_generator"),
        ({"batch": cost(400)}, "element-overhead", "batch"),
        # On a GPU: 312 up to the batch. The copy and the step (50) overlap with making the next
        # batch, so the copy limits only where the two take at least as long.
        ({"device_copy": cost(261)}, "element-overhead", "from_generator"),
        ({"device_copy": cost(262, 20)}, "device-copy", "device_copy"),
        # Making batches fits beside the copy and the step. But the step waits for the copy, which
        # limits from a tenth of the step's time on.
        ({"step": cost(400), "device_copy": cost(40)}, "device-copy", "device_copy"),
        ({"step": cost(290), "device_copy": cost(30)}, "device-copy", "device_copy"),
        ({"step": cost(400), "device_copy": cost(39)}, "step-bound", "step"),
        # The step keeps both cores busy, so making batches has no room beside it.
        ({"step": cost(400, 800), "device_copy": cost(40, 0)}, "shared-cores", "from_generator"),
    ],
)
def test_the_class_follows_from_the_costs(
    changes: dict[str, Any], bottleneck: str, stage: str
) -> None:
    found = diagnose(costs(**changes), 2)

    assert (found.bottleneck, found.stage) == (bottleneck, stage)
    assert found.advice == ADVICE[found.bottleneck]


def test_every_class_has_words_and_advice() -> None:
    assert IN_WORDS.keys() == ADVICE.keys()
    assert diagnose(costs(map=cost(400, 20)), 2).in_words == (
        "waiting in the map while the CPU is idle"
    )


def test_the_copy_is_a_stage_between_batch_and_step_only_where_it_was_measured() -> None:
    assert "device_copy" not in stages(COSTS)
    assert list(stages(costs(device_copy=cost(1))))[-3:] == ["batch", "device_copy", "step"]
    # Costs that were logged before this stage existed are read as costs without it.
    before = COSTS.model_dump(mode="json", exclude={"device_copy"})
    assert StageCosts.model_validate(before) == COSTS


def test_a_pydataset_is_not_advised_to_copy_ahead() -> None:
    found = diagnose(costs(device_copy=cost(400), py_dataset=True), 2)

    assert found.bottleneck == "device-copy"
    assert "device_prefetch" not in found.advice


def test_json_calls_it_class() -> None:
    found = diagnose(COSTS, 2)
    document = found.model_dump(mode="json", by_alias=True)

    assert document["class"] == "element-overhead"
    assert document["costs"]["generator"]["wall_s"] == pytest.approx(10e-6)
    assert type(found).model_validate(document) == found


@pytest.mark.timing
@pytest.mark.parametrize(
    ("name", "bottleneck", "stage"),
    [
        ("SleepingGenerator", "blocking", "generator"),
        ("BusyGenerator", "generator-gil", "generator"),
        ("BareElements", "element-overhead", "from_generator"),
        ("BlockingMap", "blocking", "map"),
        ("BusyMap", "map-cpu", "map"),
        ("PythonMap", "map-gil", "map"),
        ("HeavyModel", "step-bound", "step"),
    ],
)
def test_a_planted_bottleneck_is_found(
    planted: Planted, name: str, bottleneck: str, stage: str
) -> None:
    for _ in range(3):  # a burst of other work on the host may hide the bottleneck
        measured = planted.measure(name)
        found = diagnose(measured, usable_cores())
        if (found.bottleneck, found.stage) == (bottleneck, stage):
            return
    pytest.fail(f"{found.bottleneck} in the {found.stage}: {measured}")


@pytest.mark.timing
def test_what_was_planted_is_measured(planted: Planted) -> None:
    sleeping, blocking = planted["SleepingGenerator"], planted["BlockingMap"]
    assert blocking.map is not None

    # A sleep may take a little longer than asked, but never less.
    assert 0.003 <= sleeping.generator.wall_s < 0.009
    assert sleeping.generator.cpu_s < 0.0015
    assert sleeping.map is None
    assert 0.0035 < blocking.map.wall_s < 0.012
    assert blocking.map_is_python
    assert blocking.map_speedup > 1.3
    # Its rate with calls in flight read up to 3.2 times as fast, because hundreds of elements were
    # ready. So the speed-up is taken from the cores that the calls keep busy.
    assert planted["PythonMap"].map_speedup < 1.5
    assert sleeping.step_s.keys() == {8}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Ragged", "OwnStep"])
def test_any_pipeline_can_be_diagnosed(runner: TrialRunner, name: str) -> None:
    assert isinstance(
        runner.measure_stages(f"tests.planted.pipelines:{name}", 0, "cpu"), StageCosts
    )


def test_a_pipeline_that_fails_is_one_line(runner: TrialRunner) -> None:
    found = runner.measure_stages("tests.planted.pipelines:Faulty", 0, "cpu")

    assert isinstance(found, TrialFailure)
    assert "KeyError: 'lost sample 50'" in found.detail
    assert "\n" not in found.detail
