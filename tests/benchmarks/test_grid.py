"""The grid: its points, what is measured beside each, and that nothing is measured twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.bench import BRIEF, Bench
from benchmarks.grid import costs_of, finer
from benchmarks.grids.points import reference, thinned
from benchmarks.grids.result import table, truth_of
from benchmarks.grids.run import AUTOTUNE, NOMINEES, POINTS, TEN, THREE, Grid, GridSettings
from benchmarks.journal import Journal, JournalError, read
from prefetch_tuning.experiments.search.space import Axis, SearchSpace
from prefetch_tuning.objectives.measurement import Measurement, TrialFailure
from prefetch_tuning.objectives.spec import TrialSpec
from prefetch_tuning.pipelines.config import UNBOUNDED, PipelineConfig
from tests.support.fakes import COSTS, FakeRunner, measurement

TARGET = "tests.planted.pipelines:Mapped"
SPACE = SearchSpace(
    batch_sizes=(8,),
    axes=(
        Axis.range("prefetch_buffer", 64),
        Axis.range("map_parallelism", 8),
        Axis.range("generator_chunk", 1_024, step=4),
        Axis.of("thread_pool_size", 0, 16, 64, UNBOUNDED),
        Axis.of("vectorized_map", False, True),
    ),
)
SMALL = SearchSpace(
    batch_sizes=(8,), axes=(Axis.range("prefetch_buffer", 8), Axis.range("map_parallelism", 8))
)
PINNED = {"target": TARGET, "points": 16}


Opener = Callable[[Path], Journal]


@pytest.fixture
def opened() -> Iterator[Opener]:
    """Opens journals, each only after the last is closed, since an open journal is locked."""
    journals: list[Journal] = []

    def open_journal(path: Path) -> Journal:
        for earlier in journals:
            earlier.close()
        journals.append(Journal(path, PINNED))
        return journals[-1]

    yield open_journal
    for journal in journals:
        journal.close()


class Rates(FakeRunner):
    """Gives each trial the rate that `rate` says, on a host that is `slow` times slower."""

    def __init__(self, fails: PipelineConfig | None = None) -> None:
        super().__init__([])
        self.fails = fails
        self.slow = 1.0

    def measure(self, spec: TrialSpec) -> Measurement | TrialFailure:
        self.specs.append(spec)
        if spec.config == self.fails:
            return TrialFailure(kind="crash", detail="as planted")
        return measurement(self.rate(spec.config) / self.slow)

    def rate(self, config: PipelineConfig) -> float:
        if config.is_autotune:
            return 100.0
        return 100.0 * int(config.map_parallelism) + int(config.prefetch_buffer)


def grid(runner: Rates, journal: Journal, reference_every: int = 1) -> Grid:
    settings = GridSettings(
        points=16,
        batch_size=8,
        reference_every=reference_every,
        rounds_of_ten=2,
        rounds_of_three=3,
    )
    bench = Bench(runner, journal)
    return Grid(bench, TARGET, SMALL, settings, PipelineConfig.autotune(8))


def test_thinning_keeps_every_value_of_every_axis() -> None:
    for count in (1, 30, 120):
        points = thinned(SPACE, count)
        for axis in SPACE.axes:
            assert {getattr(point, axis.name) for point in points} == set(axis.points)


def test_thinning_takes_every_structure_equally_often() -> None:
    points = thinned(SPACE, 120)
    assert len(points) == len(set(points)) == 120
    counts: dict[str, int] = {}
    for point in points:
        key = json.dumps(point.structure)
        counts[key] = counts.get(key, 0) + 1
    assert len(counts) == 6 * 4 * 2
    assert max(counts.values()) - min(counts.values()) <= 2


def test_thinning_is_the_same_each_time_and_other_with_another_seed() -> None:
    assert thinned(SPACE, 50) == thinned(SPACE, 50)
    assert thinned(SPACE, 50) != thinned(SPACE, 50, seed=1)


@pytest.mark.parametrize("count", [0, 16, 1_000])
def test_a_small_space_is_measured_whole(count: int) -> None:
    assert set(thinned(SMALL, count)) == set(SMALL.grid())


def test_the_reference_is_the_plain_chain() -> None:
    assert reference(SPACE) == PipelineConfig(batch_size=8, prefetch_buffer=4, map_parallelism=2)
    unmapped = SearchSpace(batch_sizes=(8,), axes=SPACE.axes[:1])
    assert reference(unmapped).map_parallelism == 1


def test_every_point_has_a_reference_on_either_side(tmp_path: Path, opened: Opener) -> None:
    runner = Rates()
    grid(runner, opened(tmp_path / "grid.jsonl")).points()
    beside = reference(SMALL)
    assert [spec.config == beside for spec in runner.specs[::2]] == [True] * 17
    assert len(runner.specs) == 33
    assert {spec.stop for spec in runner.specs} == {BRIEF}


def test_several_points_can_share_their_references(tmp_path: Path, opened: Opener) -> None:
    runner = Rates()
    ranked = grid(runner, opened(tmp_path / "grid.jsonl"), reference_every=5).points()
    beside = reference(SMALL)
    places = [place for place, spec in enumerate(runner.specs) if spec.config == beside]
    # The reference is also one of the points.
    assert len(runner.specs) == 16 + 5
    assert {0, 6, 12, 18, 20} <= set(places)
    assert set(ranked) == set(SMALL.grid())


@pytest.mark.parametrize("reference_every", [1, 4])
def test_points_are_ranked_by_the_ratio_to_what_was_beside_them(
    tmp_path: Path, opened: Opener, reference_every: int
) -> None:
    class Drifting(Rates):
        def measure(self, spec: TrialSpec) -> Measurement | TrialFailure:
            self.slow *= 1.1  # the last trial is about 20x slower than the first
            return super().measure(spec)

    ranked = grid(Drifting(), opened(tmp_path / "grid.jsonl"), reference_every).points()
    assert [point.map_parallelism for point in ranked[:4]] == [8] * 4


def test_the_best_go_through_the_rounds_with_autotune(tmp_path: Path, opened: Opener) -> None:
    runner = Rates()
    found = grid(runner, opened(tmp_path / "grid.jsonl")).run()
    assert len(found.configs) == NOMINEES + 1
    assert [len(found.ten), len(found.three)] == [2, 3]
    assert set(found.three[0]) == {"01", "02", "03", AUTOTUNE}
    truth = truth_of(found)
    assert truth is not None
    assert str(truth.config) == "batch 8, prefetch 8, map 8"
    assert (truth.examples_per_s, truth.ratio_to_autotune, truth.rounds) == (808.0, 8.08, 3)
    assert len(table(found)) == 2 + NOMINEES + 1
    assert table(found)[2].startswith("| batch 8, prefetch 8, map 8 | 808 | 808 to 808 | 8.08x (")


@pytest.mark.parametrize("after", [0, 5, 40, 60])
def test_what_was_measured_is_not_measured_again(
    tmp_path: Path, opened: Opener, after: int
) -> None:
    class Killed(Rates):
        def measure(self, spec: TrialSpec) -> Measurement | TrialFailure:
            if len(self.specs) == after:
                raise KeyboardInterrupt
            return super().measure(spec)

    whole = Rates()
    expected = grid(whole, opened(tmp_path / "whole.jsonl")).run()
    path = tmp_path / "grid.jsonl"
    killed, resumed = Killed(), Rates()
    interrupted = grid(killed, opened(path))
    with pytest.raises(KeyboardInterrupt):
        interrupted.run()
    assert grid(resumed, opened(path)).run() == expected
    # Points aren't measured again. A round that was cut off is, as a whole.
    ran = killed.specs + resumed.specs
    again = len(ran) - len(whole.specs)
    assert 0 <= again < NOMINEES
    assert ran[:after] == whole.specs[:after]
    assert ran[after:] == whole.specs[after - again :]


def test_a_failed_trial_is_written_down_and_left_out(tmp_path: Path, opened: Opener) -> None:
    best = PipelineConfig(batch_size=8, prefetch_buffer=8, map_parallelism=8)
    path = tmp_path / "grid.jsonl"
    found = grid(Rates(fails=best), opened(path)).run()
    truth = truth_of(found)
    assert truth is not None
    assert str(truth.config) == "batch 8, prefetch 4, map 8"
    failures = [line["failure"]["detail"] for line in read(path) if line.get("failure")]
    assert failures == ["as planted"]


def test_a_reference_that_fails_once_leaves_the_other(tmp_path: Path, opened: Opener) -> None:
    ranked = grid(Rates(fails=reference(SMALL)), opened(tmp_path / "none.jsonl")).points()
    assert ranked == []  # there is nothing to compare them with


def test_a_line_of_another_configuration_is_not_taken(tmp_path: Path, opened: Opener) -> None:
    runner = Rates()
    bench = Bench(runner, opened(tmp_path / "bench.jsonl"))
    one, two = (PipelineConfig(batch_size=8, prefetch_buffer=n, map_parallelism=1) for n in (1, 2))
    assert bench.rate("round", "00/best", TARGET, one) == 101.0
    assert bench.rate("round", "00/best", TARGET, two) == 102.0
    assert bench.rate("round", "00/best", TARGET, two) == 102.0
    assert len(runner.specs) == 2


def test_a_line_that_a_kill_cut_off_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with Journal(path, PINNED) as journal:
        journal.add("points", "0001", rate=1.0)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"part": "points", "key": "00')
    with Journal(path, PINNED) as journal:
        assert [line["key"] for line in journal.of("points")] == ["0001"]
        journal.add("points", "0002", rate=2.0)
    assert [line.get("rate") for line in read(path)] == [None, 1.0, 2.0]


def test_a_cut_off_header_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(b'{"part": "hea')
    with Journal(path, PINNED):
        assert read(path)[0]["pinned"] == PINNED


def test_another_header_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with Journal(path, PINNED):
        pass
    with pytest.raises(JournalError, match=r"points \(points was 16, is 17\); move it away") as no:
        Journal(path, {**PINNED, "points": 17})
    assert "\n" not in str(no.value)
    with Journal(path, PINNED):  # the refused journal left nothing open
        pass


def test_what_is_not_pinned_may_differ(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with Journal(path, PINNED, costs=COSTS):
        pass
    with Journal(path, PINNED, costs=None):
        assert costs_of(path) == COSTS


@pytest.mark.parametrize("text", ["milk\neggs\n", "milk\neggs", "milk", '{"trials": 3}\n'])
def test_another_file_is_refused_and_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(JournalError, match="isn't a file of measurements"):
        Journal(path, PINNED)
    assert path.read_text(encoding="utf-8") == text


def test_two_processes_do_not_write_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with Journal(path, PINNED), pytest.raises(JournalError, match="another process"):
        Journal(path, PINNED)


def test_parts_of_a_journal_are_apart(tmp_path: Path) -> None:
    with Journal(tmp_path / "run.jsonl", PINNED) as journal:
        journal.add(TEN, "00/01", rate=1.0)
        journal.add(THREE, "00/01", rate=2.0)
        assert journal.find(POINTS, "00/01") is None
        assert [line["rate"] for line in journal.of(THREE)] == [2.0]


def test_ranges_can_have_more_points() -> None:
    buffers = next(a for a in finer(SPACE, 1.5).axes if a.name == "prefetch_buffer")

    assert buffers.points[:3] == (1, 2, 3)
    assert buffers.points[-1] == buffers.high
    assert len(set(buffers.points)) == len(buffers.points) > 3
    assert finer(SPACE, 2.0) == SPACE
