"""The rounds of a check: how they end, which failures end it, and whose data is compared."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import count

import pytest

from prefetch_tuning.experiments.commands.check_output import lines
from prefetch_tuning.experiments.errors import StudyError, UsageError
from prefetch_tuning.experiments.repeat.check import Checker
from prefetch_tuning.experiments.repeat.checked import DATA_ROUNDS, Check, CheckRequest, Side
from prefetch_tuning.experiments.verdict.equivalence import LOOKS
from prefetch_tuning.objectives.gpu_readings import GpuReadings
from prefetch_tuning.objectives.measurement import Digest, Measurement, TrialFailure
from prefetch_tuning.objectives.spec import StopRule, TrialSpec
from prefetch_tuning.pipelines.config import PipelineConfig
from tests.support.fakes import INFO, FakeClock, FakeRunner, measurement

CHECKED = PipelineConfig(batch_size=8, prefetch_buffer=4, map_parallelism=2, generator_chunk=32)
REFERENCE = PipelineConfig.autotune(8)
ROUND_S = 4.0
CRASH = TrialFailure(kind="crash", detail="SIGSEGV")
Answer = Callable[[int], Measurement | TrialFailure]


class TwoSided(FakeRunner):
    """Answers by side and round; each measurement takes half of ROUND_S."""

    def __init__(self, clock: FakeClock, checked: Answer, reference: Answer) -> None:
        super().__init__([])
        self.clock = clock
        self.sides = {CHECKED: (checked, count()), REFERENCE: (reference, count())}

    def measure(self, spec: TrialSpec) -> Measurement | TrialFailure:
        self.specs.append(spec)
        self.clock.now += ROUND_S / 2
        answer, numbers = self.sides[spec.config]
        return answer(next(numbers))


def constant(rate: float) -> Answer:
    return lambda number: measurement(rate)


def noisy(rate: float, cv: float, seed: int) -> Answer:
    rng = random.Random(seed)
    return lambda number: measurement(rate * rng.lognormvariate(0.0, cv))


def alternating(*rates: float) -> Answer:
    return lambda number: measurement(rates[number % len(rates)])


def failing(rounds: set[int], failure: TrialFailure = CRASH) -> Answer:
    return lambda number: failure if number in rounds else measurement(1_000.0)


def reading(*batches: str) -> Answer:
    """Reads the batches of one round after another, and the last ones again and again."""

    def answer(number: int) -> Measurement:
        found = batches[min(number, len(batches) - 1)]
        digest = Digest(elements="a" * 64, batches=found[:2], each_batch=list(found))
        return measurement(1_000.0).model_copy(update={"digest": digest})

    return answer


class Ran:
    """A check on fakes, and what it said meanwhile."""

    def __init__(self, checked: Answer, reference: Answer, time_s: float = 10_000.0) -> None:
        clock = FakeClock()
        self.runner = TwoSided(clock, checked, reference)
        self.shown: list[str] = []
        self.warned: list[str] = []
        configs: dict[Side, PipelineConfig] = {"checked": CHECKED, "reference": REFERENCE}
        self.request = CheckRequest(
            target=INFO.target,
            source="config.json",
            against="AUTOTUNE",
            configs=configs,
            margin=0.05,
            time_s=time_s,
            seed=3,
            device="cpu",
        )
        self.checker = Checker(
            "mapped", self.request, self.runner, self.shown.append, self.warned.append, clock
        )

    def run(self) -> Check:
        return self.checker.run()


def test_clear_results_end_at_the_first_look() -> None:
    ran = Ran(constant(1_010.0), constant(1_000.0))
    found = ran.run()

    assert found.outcome == "not slower"
    assert found.wall_s == LOOKS[0] * ROUND_S
    assert len(ran.runner.specs) == 2 * LOOKS[0]
    assert found.rates == {"checked": [1_010.0] * LOOKS[0], "reference": [1_000.0] * LOOKS[0]}
    assert found.data_checked
    assert ran.shown == ["ratio 1.010"] * LOOKS[0]
    assert lines(found) == [
        "mapped: not slower than AUTOTUNE by more than 5%",
        "  ratio   1.010x AUTOTUNE (1.010x to 1.010x)",
        "  rates   1,010 examples/s; AUTOTUNE: 1,000",
        "  rounds  8 rounds in 32 s; a single measurement varies by 0.0%",
        "  sees    a slowdown of 5% or more would have been seen in 4 of 5 checks like this",
    ]


def test_a_generator_that_pauses_is_measured_from_one_pause_to_the_next() -> None:
    """With the usual second, both sides would end before the first pause."""
    patient = StopRule(max_s=12.0, warmup_max_s=30.0)
    found = Ran(constant(1_000.0), constant(1_000.0)).request
    request = found.model_copy(update={"stop": patient, "trial_timeout_s": 100.0})
    spec = request.spec("checked", 0)

    assert spec.stop == patient
    # 100 s are for a measurement of the usual length.
    assert spec.deadline_s == 100.0 + (30.0 + 24.0) - (15.0 + 2.0)


def test_a_slower_one_is_called_slower() -> None:
    found = Ran(constant(900.0), constant(1_000.0)).run()

    assert found.outcome == "slower"
    assert lines(found)[0] == "mapped: SLOWER than AUTOTUNE by more than 5%"


def test_noise_takes_more_rounds() -> None:
    slower = Ran(noisy(900.0, 0.06, 3), noisy(1_000.0, 0.06, 4)).run()
    equal = Ran(noisy(1_000.0, 0.06, 5), noisy(1_000.0, 0.06, 6)).run()

    for found, outcome in ((slower, "slower"), (equal, "not slower")):
        assert found.found is not None
        assert found.outcome == outcome
        assert LOOKS[0] < found.found.rounds <= LOOKS[5]
        assert 0.02 < found.found.noise < 0.08


def test_both_sides_run_first_equally_often_by_chance_and_in_the_same_order_again() -> None:
    ran, again = (Ran(noisy(950.0, 0.1, 1), noisy(1_000.0, 0.1, 2), 400.0) for _ in range(2))
    ran.run()
    again.run()

    assert ran.runner.specs == again.runner.specs
    pairs = list(zip(ran.runner.specs[::2], ran.runner.specs[1::2], strict=True))
    assert all({a.config, b.config} == {CHECKED, REFERENCE} for a, b in pairs)
    first = [a.config == CHECKED for a, _ in pairs]
    assert all(a != b for a, b in zip(first[::2], first[1::2], strict=False))
    # By chance: not always the same one in the first of two rounds.
    assert 0 < sum(first[::2]) < len(first[::2])


def test_the_time_ends_it_undecided_with_a_look_at_all_rounds() -> None:
    found = Ran(noisy(950.0, 0.1, 1), noisy(1_000.0, 0.1, 2), 10.5 * ROUND_S).run()

    assert found.outcome == "undecided"
    assert found.found is not None
    assert found.found.rounds == 10
    assert found.found.visible_slowdown is not None
    assert lines(found)[0].startswith("mapped: UNDECIDED in 40 s; give more --time")


def test_the_last_look_decides_too() -> None:
    """After eleven rounds, between two looks."""
    # Two rounds just below the margin are too many among eight, but not among eleven.
    found = Ran(alternating(940.0, 945.0, *[1_000.0] * 9), constant(1_000.0), 11.5 * ROUND_S).run()

    assert found.found is not None
    assert (found.outcome, found.found.rounds) == ("not slower", 11)


def test_too_short_a_time_is_said() -> None:
    found = Ran(constant(1.0), constant(1_000.0), 1.0).run()

    assert (found.outcome, len(found.rates["checked"])) == ("undecided", 1)
    assert (
        lines(found)[0] == "mapped: UNDECIDED: the test needs at least 8 rounds; give more --time"
    )


def test_after_the_last_look_it_gives_up() -> None:
    found = Ran(noisy(950.0, 0.1, 1), noisy(1_000.0, 0.1, 2)).run()

    assert found.outcome == "undecided"
    assert len(found.rates["checked"]) == LOOKS[-1]
    assert "UNDECIDED after 315 rounds" in lines(found)[0]


def test_one_failure_is_said_and_two_are_the_answer() -> None:
    once = Ran(failing({2}), constant(1_000.0))
    found = once.run()

    assert found.outcome == "not slower"
    assert once.warned == ["mapped: config.json failed in round 3, crash: SIGSEGV"]
    assert lines(found)[-1] == "  failed  config.json failed in round 3, crash: SIGSEGV"
    assert found.wall_s == (LOOKS[0] + 1) * ROUND_S  # the round without a result doesn't count

    found = Ran(failing({0, 1}), constant(1_000.0)).run()
    assert (found.outcome, found.found) == ("failed", None)
    assert lines(found) == [
        "mapped: FAILED: config.json cannot be measured, but AUTOTUNE can",
        "  rounds  0 rounds in 8 s",
        "  failed  config.json failed in round 1, crash: SIGSEGV",
        "  failed  config.json failed in round 2, crash: SIGSEGV",
    ]


def test_without_a_reference_there_is_nothing_to_compare_with() -> None:
    with pytest.raises(
        StudyError, match="nothing to compare with: AUTOTUNE failed in round 5, crash: SIGSEGV"
    ):
        Ran(constant(1_000.0), failing({1, 4})).run()
    # Also if the checked one fails: then the pipeline does.
    with pytest.raises(StudyError, match="nothing to compare with"):
        Ran(failing({0, 1}), failing({0, 1})).run()


def test_a_setting_that_the_pipeline_cannot_take_ends_it_at_once() -> None:
    failure = TrialFailure(kind="usage", detail="generator_workers: no shards")
    ran = Ran(failing({0}, failure), constant(1_000.0))

    with pytest.raises(UsageError, match=r"config\.json cannot be measured: generator_workers: no"):
        ran.run()
    assert len(ran.runner.specs) <= 2


def test_other_data_is_an_error() -> None:
    """Faster on other data isn't faster."""
    for other in (reading("abX"), reading("aXc"), reading("abc", "abc", "abc", "aX")):
        ran = Ran(other, reading("abcde"))
        with pytest.raises(UsageError, match=r"config\.json reads different data from AUTOTUNE"):
            ran.run()
        assert len(ran.runner.specs) >= 2 * DATA_ROUNDS


def test_data_that_differs_from_run_to_run_is_not_compared() -> None:
    found = Ran(reading("xyz"), reading("abc", "abe")).run()

    assert (found.outcome, found.data_checked) == ("not slower", False)
    assert lines(found)[-1] == ("  data    not compared: AUTOTUNE's own differs from run to run")


def test_the_first_rounds_read_as_many_batches_as_the_check_needs() -> None:
    ran = Ran(constant(1_000.0), constant(1_000.0))
    ran.run()

    # Two blocks of 32 elements are eight batches of eight.
    asked = [spec.digest_batches for spec in ran.runner.specs]
    assert asked == [8] * 2 * DATA_ROUNDS + [2] * 2 * (LOOKS[0] - DATA_ROUNDS)
    [spec] = {spec.model_copy(update={"digest_batches": 2}) for spec in ran.runner.specs[:1]}
    assert (spec.pipeline, spec.seed, spec.device) == (INFO.target, 3, "cpu")


def test_a_throttled_gpu_is_named() -> None:
    gpu = GpuReadings(clock_events=["hw_slowdown"])
    hot = measurement(1_000.0).model_copy(update={"gpu": gpu})
    found = Ran(lambda number: hot, constant(1_000.0)).run()

    assert "the GPU was held back: hw_slowdown" in found.problems


def test_ctrl_c_ends_it() -> None:
    def interrupt(number: int) -> Measurement:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Ran(interrupt, constant(1_000.0)).run()


def test_data_in_another_order_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "tests.repeat.test_check.CHECKED", CHECKED.model_copy(update={"reorder": True})
    )
    ran = Ran(reading("", ""), reading("ab", "ab"))
    found = ran.run()

    assert found.outcome == "not slower"
    assert not found.data_checked
    assert "  data    not compared: its order may differ from run to run" in lines(found)
