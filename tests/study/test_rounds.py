"""Which candidates are confirmed, and in which rounds, with a fake runner and real Optuna."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from prefetch_tuning.experiments.commands.progress import ConsoleSteps
from prefetch_tuning.experiments.search.space import Axis, SearchSpace
from prefetch_tuning.experiments.settings import StudySettings
from prefetch_tuning.experiments.storage.confirmation import Candidates
from prefetch_tuning.experiments.storage.results import MeasuredConfig
from prefetch_tuning.experiments.study.candidates import candidates_of, usable
from prefetch_tuning.experiments.study.rounds import Confirmer
from prefetch_tuning.objectives.gpu_readings import GpuReadings
from prefetch_tuning.objectives.measurement import LimitTerms, Measurement, TrialFailure
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.spec import TrialSpec
from prefetch_tuning.objectives.throughput import Throughput
from prefetch_tuning.pipelines.config import PipelineConfig
from tests.study.test_study import FAILURE, SETTINGS, Bench
from tests.support.fakes import INFO, LIMIT_TERMS, FakeRunner, measurement


def complete(rate: float, batch_size: int, buffer: int) -> MeasuredConfig:
    config = PipelineConfig(batch_size=batch_size, prefetch_buffer=buffer, map_parallelism=1)
    return MeasuredConfig.of(config, measurement(rate), "run")


def nominated(trials: list[MeasuredConfig], own: dict[str, int] | None = None) -> Candidates:
    """The candidates of a study that looks for throughput, without a diagnosis."""
    return candidates_of(trials, Throughput(), lambda _: math.nan, own)


def test_the_best_three_at_the_best_batch_size_meet_the_baselines_at_it() -> None:
    found = nominated(
        [complete(1_000 + buffer, 8, buffer) for buffer in (1, 2, 4, 8)] + [complete(900, 4, 1)]
    )

    assert list(found) == ["tuned-1", "tuned-2", "tuned-3", "autotune", "no_prefetch"]
    assert [found[f"tuned-{rank}"].prefetch_buffer for rank in (1, 2, 3)] == [8, 4, 2]
    assert found["autotune"] == PipelineConfig.autotune(8)
    assert found["no_prefetch"] == PipelineConfig.no_prefetch(8)


def test_a_scripts_own_chain_is_a_candidate() -> None:
    trials = [complete(1_000, 8, 1)]
    found = candidates_of(trials, Throughput(), lambda _: math.nan, written=True)

    assert list(found) == ["tuned-1", "as_written", "autotune", "no_prefetch"]
    assert found["as_written"] == PipelineConfig.written(8)


def test_a_reordered_winner_meets_itself_with_the_order_kept() -> None:
    ordered = complete(900, 8, 4)
    first = ordered.config.model_copy(update={"reorder": True, "map_parallelism": 8})
    winner = ordered.model_copy(update={"config": first, "examples_per_s": 1_000.0})
    found = nominated([winner, ordered])

    assert found["tuned-1"] == first
    assert found["ordered"] == first.model_copy(update={"reorder": False})
    assert found["structure_autotune"].reorder
    assert found["basic"] == ordered.config


def test_one_lucky_trial_does_not_choose_the_batch_size() -> None:
    lucky = [complete(1_300, 4, 1), complete(700, 4, 2), complete(700, 4, 4)]
    steady = [complete(1_000, 8, buffer) for buffer in (1, 2, 4)]

    assert nominated(lucky + steady)["autotune"].batch_size == 8


def test_sizes_are_compared_over_as_many_configurations_as_both_have() -> None:
    """A size that was tried once isn't better because another one was also tried with slow ones."""
    often = [complete(27_000, 8, 1), complete(15_000, 8, 2), complete(8_000, 8, 4)]

    assert nominated([*often, complete(24_000, 4, 1)])["autotune"].batch_size == 8
    assert nominated([*often, complete(28_000, 4, 1)])["autotune"].batch_size == 4


def test_settings_of_another_batch_size_keep_within_its_bounds() -> None:
    """A block holds a batch at most where the generator is slow."""
    space = SearchSpace((4, 8), (Axis("generator_chunk", low=1, high=64),), most_in_block=2)
    blocks = complete(1_000, 8, 1)
    config = blocks.config.model_copy(update={"generator_chunk": 8})
    trials = [blocks.model_copy(update={"config": config}), complete(1_100, 4, 1)]
    found = candidates_of(trials, Throughput(), lambda _: math.nan, resized=space.resized)

    tuned, basic = found["tuned-1"], found["basic"]
    assert (tuned.batch_size, tuned.generator_chunk) == (4, 4)
    assert (basic.batch_size, basic.generator_chunk) == (4, 1)


def test_a_configuration_that_was_repeated_counts_by_its_median() -> None:
    found = nominated(
        [complete(rate, 8, 1) for rate in (2_000, 900, 900)] + [complete(1_000, 8, 2)]
    )

    assert [found[f"tuned-{rank}"].prefetch_buffer for rank in (1, 2)] == [2, 1]
    assert "tuned-3" not in found


def test_settings_of_another_batch_size_fill_the_places() -> None:
    found = nominated([complete(1_000, 8, 1), complete(900, 4, 2), complete(800, 4, 1)])

    tuned = [config for name, config in found.items() if name.startswith("tuned")]
    assert [(c.batch_size, c.prefetch_buffer) for c in tuned] == [(8, 1), (8, 2)]


def test_the_best_without_structure_takes_the_place_of_the_third() -> None:
    def in_blocks(rate: float, chunk: int) -> MeasuredConfig:
        found = complete(rate, 8, 1)
        config = found.config.model_copy(update={"generator_chunk": chunk})
        return found.model_copy(update={"config": config})

    plain = [complete(800, 8, 4), complete(900, 8, 2)]
    found = nominated([*plain, *(in_blocks(9_000 + chunk, chunk) for chunk in (2, 4, 8))])

    names = ["tuned-1", "tuned-2", "basic", "structure_autotune", "autotune", "no_prefetch"]
    assert list(found) == names
    assert [found[f"tuned-{rank}"].generator_chunk for rank in (1, 2)] == [8, 4]
    assert found["structure_autotune"] == PipelineConfig.autotune(8, generator_chunk=8)
    assert found["basic"] == plain[1].config


def test_basic_is_the_best_plain_chain_at_whatever_batch_size_it_was_measured() -> None:
    """Seen: basic was prefetch 55, sequential map: the only plain trial at that batch size."""
    chunked = complete(9_000, 8, 1)
    config = chunked.config.model_copy(update={"generator_chunk": 8})
    structured = chunked.model_copy(update={"config": config})

    found = nominated([structured, complete(4_325, 8, 55), complete(4_974, 4, 2)])

    assert found["basic"] == PipelineConfig(batch_size=8, prefetch_buffer=2, map_parallelism=1)


def test_autotune_keeps_what_a_py_dataset_was_made_with() -> None:
    found = nominated([complete(900, 8, 2)], {"workers": 3})

    assert found["autotune"] == PipelineConfig.autotune(8, workers=3)


def test_nothing_complete_nominates_nothing() -> None:
    assert nominated([]) == {}


CANDIDATES = {
    "tuned-1": PipelineConfig(batch_size=8, prefetch_buffer=2, map_parallelism=1),
    "autotune": PipelineConfig.autotune(8),
}


NOISY = [500.0, 1_500.0, 900.0, 1_300.0, 700.0]


class RatedRunner(FakeRunner):
    """Measures the tuned configuration at 1,000 examples/s, and AUTOTUNE at rates from a list."""

    def __init__(self, autotune: list[float], failing: PipelineConfig | None = None) -> None:
        super().__init__([])
        self.autotune = autotune
        self.failing = failing

    def measure(self, spec: object) -> Measurement | TrialFailure:
        self.specs.append(spec)  # type: ignore[arg-type]
        config = self.specs[-1].config
        if config == self.failing:
            return FAILURE
        if config.is_autotune:
            return measurement(self.autotune[len(self.specs) % len(self.autotune)])
        return measurement(1_000.0)


def confirm(
    folder: Path, runner: RatedRunner, more: int | None = None, budget_s: float = 1e9
) -> tuple[Bench, Confirmer]:
    bench = Bench(folder)
    bench.study.settings = StudySettings(**{**SETTINGS.model_dump(), "confirm_budget_s": budget_s})
    bench.study.runner = runner
    bench.study.kept.nominate(CANDIDATES)
    confirmer = Confirmer(bench.study)
    confirmer.run(ConsoleSteps(Console(quiet=True), "s", "round", 0, 9), more)
    return bench, confirmer


def test_nine_rounds_are_the_least_and_enough_for_a_clear_ratio(tmp_path: Path) -> None:
    runner = RatedRunner([900.0])
    bench, _ = confirm(tmp_path, runner)

    assert len(bench.study.kept.rounds) == 9
    orders = [
        tuple(spec.config.is_autotune for spec in runner.specs[i : i + 2]) for i in range(0, 18, 2)
    ]
    assert set(orders) == {(True, False), (False, True)}
    assert all(set(found) == set(CANDIDATES) for found in bench.study.kept.rounds)
    # The rate without the step decides nothing, so only the first two rounds measure it.
    assert [spec.ceilings for spec in runner.specs] == [True] * 4 + [False] * 14


def test_an_unclear_ratio_gets_no_more_rounds_than_the_budget_allows(tmp_path: Path) -> None:
    bench, _ = confirm(tmp_path, RatedRunner(NOISY), budget_s=0.0)

    assert len(bench.study.kept.rounds) == 9


def test_an_unclear_ratio_gets_rounds_until_it_is_clear(tmp_path: Path) -> None:
    bench, _ = confirm(tmp_path, RatedRunner([*NOISY * 3, *[1_000.0] * 300]))

    assert 9 < len(bench.study.kept.rounds) < 150


def test_more_rounds_can_be_asked_for(tmp_path: Path) -> None:
    bench, _ = confirm(tmp_path, RatedRunner([900.0]), more=4)
    assert len(bench.study.kept.rounds) == 4

    Confirmer(bench.study).run(ConsoleSteps(Console(quiet=True), "s", "round", 0, 9), 3)
    assert len(bench.study.kept.rounds) == 7


def test_a_candidate_that_fails_twice_is_left_out(tmp_path: Path) -> None:
    runner = RatedRunner([900.0], failing=CANDIDATES["autotune"])
    bench, confirmer = confirm(tmp_path, runner)

    counts = Counter(spec.config.is_autotune for spec in runner.specs)
    assert counts == {True: 2, False: 9}
    assert confirmer.problems[0] == (
        "mapped: autotune failed in round 0, generator: KeyError: 'lost'"
    )
    assert len(bench.study.kept.rounds) == 9


def test_without_a_tuned_candidate_there_is_nothing_to_confirm(tmp_path: Path) -> None:
    bench, _ = confirm(tmp_path, RatedRunner([900.0], failing=CANDIDATES["tuned-1"]))

    assert len(bench.study.kept.rounds) == 2


def test_a_round_that_was_broken_off_is_measured_again(tmp_path: Path) -> None:
    class Interrupted(RatedRunner):
        def measure(self, spec: object) -> Measurement | TrialFailure:
            if len(self.specs) == 5:
                raise KeyboardInterrupt
            return super().measure(spec)

    with pytest.raises(KeyboardInterrupt):
        confirm(tmp_path, Interrupted([900.0]))
    bench, _ = confirm(tmp_path, RatedRunner([900.0]))

    assert [len(found) for found in bench.study.kept.rounds] == [2] * 9


@pytest.mark.parametrize("name", ["autotune", "tuned-1"])
def test_a_round_in_which_autotune_or_the_leader_failed_is_made_up_for(
    tmp_path: Path, name: str
) -> None:
    """Nine rounds with only eight rates of either would give no verdict, even at 10x AUTOTUNE."""

    class FailsOnce(RatedRunner):
        def measure(self, spec: TrialSpec) -> Measurement | TrialFailure:  # type: ignore[override]
            tried = [s.config for s in self.specs]
            if spec.config == CANDIDATES[name] and spec.config not in tried:
                self.specs.append(spec)
                return FAILURE
            return super().measure(spec)

    bench, _ = confirm(tmp_path, FailsOnce([100.0]), budget_s=0.0)

    assert sum(name in found for found in bench.study.kept.rounds) == 9
    assert len(bench.study.kept.rounds) == 10


class OtherData(RatedRunner):
    """Some configurations give other batches than the plain chain."""

    def __init__(self, *others: PipelineConfig) -> None:
        super().__init__([900.0])
        self.others = others

    def measure(self, spec: TrialSpec) -> Measurement | TrialFailure:  # type: ignore[override]
        found = super().measure(spec)
        assert isinstance(found, Measurement)
        each = ["b" if spec.config in self.others else "a"] * spec.digest_batches
        digest = found.digest.model_copy(update={"each_batch": each})
        return found.model_copy(update={"digest": digest})


def test_a_candidate_that_reads_other_data_is_out_at_once(tmp_path: Path) -> None:
    runner = OtherData(CANDIDATES["tuned-1"])
    bench, confirmer = confirm(tmp_path, runner)

    assert bench.study.kept.other_data == ["tuned-1"]
    assert len(bench.study.kept.rounds) == 1
    assert "reads different data from the plain chain, so it is excluded" in confirmer.problems[0]
    assert "the order in which threads run" in confirmer.problems[0]


def test_where_autotunes_data_differ_nobody_is_out(tmp_path: Path) -> None:
    bench, confirmer = confirm(tmp_path, OtherData(*CANDIDATES.values()))

    assert bench.study.kept.other_data == []
    assert confirmer.problems[-1] == (
        "mapped: the data is not checked: AUTOTUNE's own data differs from run to run"
    )


def test_if_the_check_ends_who_was_excluded_before_is_nominated_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.study.runner = OtherData(CANDIDATES["tuned-1"])
    bench.study.kept.nominate(CANDIDATES)
    first = Confirmer(bench.study, gives_up=True)
    first.run(ConsoleSteps(Console(quiet=True), "s", "round", 0, 9))
    assert first.gave_up

    bench.study.runner = OtherData(CANDIDATES["autotune"])
    bench.study.kept.nominate({**CANDIDATES, "tuned-1": complete(900, 8, 4).config})
    second = Confirmer(bench.study, gives_up=True)
    second.run(ConsoleSteps(Console(quiet=True), "s", "round", 0, 9))

    assert second.gave_up
    assert bench.study.kept.excluded_with_best == []


def test_if_the_best_reads_other_data_others_are_nominated(tmp_path: Path) -> None:
    """Seen: three candidates with a cache were excluded, and blocks of 10x were never confirmed."""

    def changed(rate: float, **structure: int) -> MeasuredConfig:
        found = complete(rate, 8, 2)
        config = found.config.model_copy(update=structure)
        return found.model_copy(update={"config": config})

    cached = changed(9_000, generator_chunk=2, cache=True)
    trials = [
        cached,
        changed(8_000, generator_chunk=4, cache=True),
        changed(7_000, thread_pool_size=4),
    ]
    trials += [complete(900, 8, 1)]
    bench = Bench(tmp_path)
    bench.study.runner = OtherData(cached.config)
    bench.study.kept.nominate(nominated(trials))
    confirmer = Confirmer(bench.study, gives_up=True)
    confirmer.run(ConsoleSteps(Console(quiet=True), "s", "round", 0, 9))

    assert confirmer.gave_up
    assert len(bench.study.kept.rounds) == 1
    assert bench.study.kept.excluded_with_best == [cached.config]
    left = usable(trials, bench.study.kept.excluded_with_best)
    assert [m.config for m in left] == [m.config for m in trials[2:]]
    bench.study.kept.nominate(nominated(left))
    again = Confirmer(bench.study, gives_up=True)
    again.run(ConsoleSteps(Console(quiet=True), "s", "round", 0, 9))

    assert not again.gave_up
    assert len(bench.study.kept.rounds) == 9
    assert bench.study.kept.excluded_with_best == [cached.config]


def test_a_plain_chain_that_reads_other_data_excludes_only_itself() -> None:
    trials = [complete(900, 8, 1), complete(800, 8, 2)]

    assert usable(trials, [trials[0].config]) == trials[1:]


REORDERED = PipelineConfig(batch_size=8, prefetch_buffer=2, map_parallelism=2, reorder=True)


class Reordering(OtherData):
    """The reordered candidate's batches are never the plain chain's; `elements` come from it."""

    def __init__(self, elements: str) -> None:
        super().__init__(REORDERED)
        self.elements = elements

    def read_data(
        self, spec: TrialSpec, most_s: float, stages: int | None = None
    ) -> list[str] | TrialFailure:
        if spec.config.batch_size != 1:
            return super().read_data(spec, most_s, stages)
        plain = [f"{number}" for number in range(spec.digest_batches)]
        if not spec.config.reorder:
            return plain
        own = {"turned": [*plain[1:], plain[0]], "other": ["x", *plain[1:]], "none": []}
        return own[self.elements]


@pytest.mark.parametrize(
    ("elements", "other", "said"),
    [
        ("turned", [], []),
        ("other", ["tuned-1"], ["reads different data from the plain chain"]),
        ("none", [], ["the elements of tuned-1 could not be compared"]),
    ],
)
def test_where_the_order_may_differ_elements_are_compared_as_a_set(
    elements: str, other: list[str], said: list[str], tmp_path: Path
) -> None:
    bench = Bench(tmp_path)
    bench.study.runner = Reordering(elements)
    bench.study.kept.nominate({"tuned-1": REORDERED, "autotune": PipelineConfig.autotune(8)})
    confirmer = Confirmer(bench.study)
    confirmer.run(ConsoleSteps(Console(quiet=True), "s", "round", 0, 9), 2)

    assert bench.study.kept.other_data == other
    assert len(confirmer.problems) == len(said)
    assert all(part in line for part, line in zip(said, confirmer.problems, strict=True))


def test_one_over_the_memory_limit_sends_nobody_away(tmp_path: Path) -> None:
    """It cannot be recommended, so the slower one that fits must stay to the end."""
    candidates = {**CANDIDATES, "tuned-2": complete(900, 8, 1).config}

    class Large(RatedRunner):
        def measure(self, spec: TrialSpec) -> Measurement | TrialFailure:  # type: ignore[override]
            self.specs.append(spec)
            if spec.config == candidates["tuned-1"]:
                return measurement(1_000.0, peak_mib=102.0)
            return measurement(600.0 if spec.config == candidates["tuned-2"] else 100.0)

    bench = Bench(tmp_path)
    bench.study.runner = Large([])
    bench.study.kept.nominate(candidates)
    Confirmer(bench.study).run(ConsoleSteps(Console(quiet=True), "s", "round", 0, 9), None)

    assert sum("tuned-2" in found for found in bench.study.kept.rounds) == 9


def test_one_over_the_memory_limit_does_not_end_the_rounds(tmp_path: Path) -> None:
    """Its ratio is clear, but that of the one that can be recommended is open."""
    candidates = {**CANDIDATES, "tuned-2": complete(900, 8, 1).config}

    class Large(RatedRunner):
        def measure(self, spec: TrialSpec) -> Measurement | TrialFailure:  # type: ignore[override]
            found = super().measure(spec)
            if spec.config == candidates["tuned-1"]:
                return measurement(10_000.0, peak_mib=102.0)
            return found

    bench = Bench(tmp_path)
    settings = {**SETTINGS.model_dump(), "confirm_budget_s": 1e9}
    bench.study.settings = StudySettings(**settings)
    bench.study.runner = Large([*NOISY * 6, *[900.0] * 300])
    bench.study.kept.nominate(candidates)
    Confirmer(bench.study).run(ConsoleSteps(Console(quiet=True), "s", "round", 0, 9), None)

    assert len(bench.study.kept.rounds) > 9


HOT = GpuReadings(clock_events=["sw_power_cap", "sw_thermal_slowdown"])
# A busy card at its power cap: cards are like that all day, so such a round counts.
NORMAL = GpuReadings(clock_events=["sw_power_cap"], utilisation=0.9)


class Watched(RatedRunner):
    """Adds the GPU's readings to each measurement of a candidate or the limit.

    `hot` numbers the measurements, from 0, in which the GPU was held back.
    """

    def __init__(self, *hot: int) -> None:
        super().__init__([900.0])
        self.hot = hot
        self.measured = 0

    def _seen(self) -> GpuReadings:
        self.measured += 1
        return HOT if self.measured - 1 in self.hot else NORMAL

    def measure(self, spec: TrialSpec) -> Measurement | TrialFailure:  # type: ignore[override]
        found = super().measure(spec)
        assert isinstance(found, Measurement)
        return found.model_copy(update={"gpu": self._seen()})

    def measure_limit(self, *arguments: object, **more: object) -> LimitTerms | TrialFailure:
        return LIMIT_TERMS.model_copy(update={"gpu": self._seen()})


def watched(
    folder: Path, runner: TrialRunner, device: str = "gpu: H100"
) -> tuple[Bench, Confirmer]:
    """Runs a confirmation on a GPU: each round measures two candidates and the limit."""
    bench = Bench(folder)
    bench.study.info = INFO.model_copy(update={"device": device})
    bench.study.runner = runner
    bench.study.kept.nominate(CANDIDATES)
    confirmer = Confirmer(bench.study)
    confirmer.run(ConsoleSteps(Console(quiet=True), "s", "round", 0, 9), None)
    return bench, confirmer


def test_a_round_in_which_the_gpu_was_held_back_is_measured_again(tmp_path: Path) -> None:
    runner = Watched(1, 9, 10, 11)  # one of the first round's three, all of the fourth's
    bench, confirmer = watched(tmp_path, runner)

    record = bench.study.kept
    assert runner.measured == 3 * (9 + 2)
    assert [len(found) for found in record.rounds] == [2] * 9
    # The study no longer knows anything of those two rounds, and their runs say why.
    away = [f"run-{number}" for number in (1, 2, 3, 10, 11, 12)]
    assert sorted(bench.tracker.throttled) == sorted(away)
    assert set(map(tuple, bench.tracker.throttled.values())) == {("sw_thermal_slowdown",)}
    assert not record.known_run_ids & set(away)
    assert len(record.known_run_ids) == 3 * 9
    assert confirmer.problems == []


@pytest.mark.parametrize("first", range(3))
def test_whatever_of_a_round_it_was_counts(tmp_path: Path, first: int) -> None:
    """One throttled measurement is enough, whether it is of a candidate or of the limit."""
    runner = Watched(first)
    bench, _ = watched(tmp_path, runner)

    assert runner.measured == 3 * (9 + 1)
    assert len(bench.tracker.throttled) == 3


def test_a_gpu_that_is_always_held_back_is_confirmed_on_what_there_is(tmp_path: Path) -> None:
    runner = Watched(*range(300))
    bench, confirmer = watched(tmp_path, runner)

    assert runner.measured == 3 * (9 + 3)
    assert len(bench.tracker.throttled) == 3 * 3
    assert len(bench.study.kept.rounds) == 9
    assert confirmer.problems == [
        "mapped: the GPU was held back (sw_thermal_slowdown) in 12 rounds: 3 were measured again, "
        "9 kept"
    ]


def test_the_power_cap_is_no_reason_to_measure_again(tmp_path: Path) -> None:
    runner = Watched()
    bench, confirmer = watched(tmp_path, runner)

    assert runner.measured == 3 * 9
    assert (bench.tracker.throttled, confirmer.problems) == ({}, [])


def test_the_limit_of_a_cpu_is_not_a_matter_of_the_gpu_beside_it(tmp_path: Path) -> None:
    class OnCpu(RatedRunner):
        def measure_limit(self, *arguments: object, **more: object) -> LimitTerms | TrialFailure:
            return LIMIT_TERMS.model_copy(update={"gpu": HOT})

    bench, _ = watched(tmp_path, OnCpu([900.0]), device="cpu")

    assert bench.tracker.throttled == {}
    assert len(bench.study.kept.rounds) == 9


def test_with_a_target_the_rounds_go_on_for_a_baseline_that_is_the_cheapest(
    tmp_path: Path,
) -> None:
    """AUTOTUNE reaches the target with half of the cores, so the tuned one leaves."""
    step = LIMIT_TERMS.step_examples_per_s

    class Dear(RatedRunner):
        def measure(self, spec: object) -> Measurement | TrialFailure:
            tuned = not spec.config.is_autotune  # type: ignore[attr-defined]
            dear = {"cpu_seconds_per_1k_examples": 2e6 / step if tuned else 1e6 / step}
            return measurement(0.97 * step).model_copy(update=dear)

    bench = Bench(tmp_path)
    asked = {**SETTINGS.model_dump(), "objective": "utilisation", "confirm_budget_s": 0.0}
    bench.study.settings = StudySettings(**asked)
    bench.study.runner = Dear([])
    bench.study.kept.nominate(CANDIDATES)
    Confirmer(bench.study).run(ConsoleSteps(Console(quiet=True), "s", "round", 0, 9))

    counts = Counter(name for found in bench.study.kept.rounds for name in found)
    assert counts["autotune"] == 9
    assert 4 <= counts["tuned-1"] < 9
