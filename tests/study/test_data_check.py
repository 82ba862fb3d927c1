"""What digests of the first batches, from real processes, reveal about shards and seeds."""

from __future__ import annotations

import pytest

from prefetch_tuning.experiments.verdict.measurements import common_batches, same_batches
from prefetch_tuning.objectives.measurement import Measurement, TrialFailure
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.spec import StopRule, TrialSpec
from prefetch_tuning.pipelines.chain.blocks import batches_to_check
from prefetch_tuning.pipelines.config import PipelineConfig

PLAIN = PipelineConfig.no_prefetch(4)
FOUR = PipelineConfig(batch_size=4, prefetch_buffer=2, map_parallelism=1, generator_workers=4)
QUICK = StopRule(window_s=0.02, startup_s=0.05, min_windows=4, max_s=0.2, target_half_width=0.2)
MOST_S = 20.0


def spec(name: str, config: PipelineConfig, count: int) -> TrialSpec:
    target = f"tests.planted.pipelines:{name}"
    return TrialSpec(pipeline=target, config=config, device="cpu", stop=QUICK, digest_batches=count)


def read(runner: TrialRunner, name: str, count: int, most_s: float = MOST_S) -> list[str]:
    found = runner.read_data(spec(name, PLAIN, count), most_s)
    assert isinstance(found, list), found
    return found


def measured(runner: TrialRunner, trial: TrialSpec) -> Measurement:
    found = runner.measure(trial)
    assert isinstance(found, Measurement), found
    return found


@pytest.mark.parametrize("config", [FOUR, FOUR.model_copy(update={"generator_chunk": 64})])
@pytest.mark.parametrize(("name", "expected"), [("Sharded", True), ("CopiedShards", False)])
def test_copies_of_one_shard_are_other_data(
    runner: TrialRunner, name: str, config: PipelineConfig, expected: bool
) -> None:
    count = batches_to_check(config)
    plain = common_batches(read(runner, name, count), read(runner, name, count))
    assert plain is not None

    parallel = measured(runner, spec(name, config, count)).digest.each_batch

    assert len(plain) == len(parallel) == count
    assert same_batches(plain, parallel) is expected


def test_what_differs_in_every_run_is_no_reference(runner: TrialRunner) -> None:
    assert common_batches(read(runner, "Unseeded", 4), read(runner, "Unseeded", 4)) is None


def test_a_trial_sees_the_batches_that_are_read_and_the_first_two_as_ever(
    runner: TrialRunner,
) -> None:
    few, many = (measured(runner, spec("Mapped", PLAIN, count)) for count in (2, 20))

    assert many.digest.each_batch == read(runner, "Mapped", 20)
    assert few.digest.each_batch == many.digest.each_batch[:2]
    assert few.digest.agrees_with(many.digest)
    assert len({*many.digest.each_batch}) == 20
    assert {len(each) for each in many.digest.each_batch} == {16}


def test_before_a_map_that_draws_random_numbers_the_data_can_be_compared(
    runner: TrialRunner,
) -> None:
    info = runner.inspect("tests.planted.pipelines:Jittered", 0, "cpu")
    assert info.random_stage == 1

    def before(name: str, config: PipelineConfig) -> list[str]:
        found = runner.read_data(spec(name, config, 40), MOST_S, info.random_stage)
        assert isinstance(found, list), found
        return found

    calls = PipelineConfig(batch_size=4, prefetch_buffer=2, map_parallelism=8, generator_chunk=8)
    plain = before("Jittered", PLAIN)
    assert len(plain) == 40
    for config in (calls, FOUR, PipelineConfig.autotune(4)):
        assert before("Jittered", config) == plain
    assert not same_batches(plain, before("JitteredCopies", FOUR))


def test_batches_that_are_only_checked_are_start_up(runner: TrialRunner) -> None:
    # At 5 ms per element, twenty batches of four take at least 0.4 s before the first window.
    found = measured(runner, spec("Slow", PLAIN, 20))

    assert found.startup_s > 0.4 + QUICK.startup_s
    assert found.measured_s > found.startup_s


def test_reading_ends_with_its_time(runner: TrialRunner) -> None:
    found = read(runner, "Slow", 1_000, most_s=0.5)

    assert 1 <= len(found) <= 26  # 20 ms per batch, and one that had begun


def test_what_fails_while_it_is_read_has_its_kind(runner: TrialRunner) -> None:
    found = runner.read_data(spec("Faulty", PLAIN, 100), MOST_S)

    assert isinstance(found, TrialFailure)
    assert (found.kind, found.detail) == ("generator", "KeyError: 'lost sample 50'")


def test_a_batch_that_never_comes_ends_at_the_deadline(runner: TrialRunner) -> None:
    trial = spec("Hanging", PLAIN, 100).model_copy(update={"deadline_s": 2.0})

    found = runner.read_data(trial, 1.0)

    assert isinstance(found, TrialFailure)
    assert found.kind == "timeout"


@pytest.mark.parametrize("chunk", [1, 4])
def test_behind_a_cache_the_first_pass_is_compared(runner: TrialRunner, chunk: int) -> None:
    """Seen: a shuffle gives another order in the second pass, so every cache was excluded."""
    config = PLAIN.model_copy(update={"cache": True, "generator_chunk": chunk})
    found = measured(runner, spec("Shuffled", config, 2)).digest

    assert found.each_batch == read(runner, "Shuffled", 2)
    assert found.batches == measured(runner, spec("Shuffled", config, 2)).digest.batches
