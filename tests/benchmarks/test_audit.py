"""The audit: when a line holds, fails or is undecided, and what the audit does with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from benchmarks.audit import __main__ as command
from benchmarks.audit import judging
from benchmarks.audit.access import Fraction as Reached
from benchmarks.audit.access import NotMeasuredError, Studied, UnavailableError, run_study
from benchmarks.audit.claims import edges, pauses
from benchmarks.audit.claims.limits import (
    known_generator_lines,
    known_step_lines,
    wasted_fraction_line,
    wasteful_map_lines,
)
from benchmarks.audit.claims.searches import GUESSES, first_trials
from benchmarks.audit.claims.studies import fractions_line, repeats_line
from benchmarks.audit.document import table
from benchmarks.audit.ground import PLANTED, AuditBench
from benchmarks.audit.judging import UNKNOWN, Estimate, Line, State, judge
from benchmarks.audit.parts import Part, part, run_parts
from benchmarks.audit.truths import PlantedTruth, collected, load_truths
from benchmarks.bench import BRIEF
from benchmarks.journal import Journal, JournalError
from benchmarks.markers import DocumentError, between_markers, rewrite
from prefetch_tuning.experiments.errors import UsageError
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.verdict.ratio import ratio_to
from prefetch_tuning.objectives.measurement import Interval, LimitTerms, Measurement, TrialFailure
from prefetch_tuning.objectives.pipeline_info import PipelineInfo
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.spec import Device, TrialSpec
from prefetch_tuning.objectives.stage_costs import StageCosts
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.source import PipelineError
from tests.support.fakes import COSTS, INFO, FakeRunner, measurement

BEST = PipelineConfig(batch_size=8, prefetch_buffer=16, map_parallelism=8)
LINE = Line(name="a", planted="b", expected="c", measured="1 | 2", state="holds")
TERMS = LimitTerms(
    step_examples_per_s=1_066.0,
    step_cores=0.1,
    generator_examples_per_s=200.0,
    generator_cpu_s=1e-5,
    map_cpu_s=5e-6,
    step_cpu_s=1e-5,
    measured_s=2.0,
)


def estimate(low: float, value: float, high: float) -> Estimate:
    return Estimate(value, Interval(low=low, high=high))


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (estimate(0.95, 1.0, 1.05), "holds"),
        (estimate(0.85, 0.90, 0.95), "holds"),  # an estimate at the bound is enough
        (estimate(0.80, 0.92, 1.00), "holds"),  # the interval may reach below the bound
        (estimate(0.80, 0.89, 0.95), "undecided"),
        (estimate(0.80, 0.85, 0.90), "undecided"),  # the interval still touches the bound
        (estimate(0.80, 0.85, 0.89), "fails"),
        (Estimate(0.1, UNKNOWN), "undecided"),
    ],
)
def test_at_least(found: Estimate, state: State) -> None:
    assert judge(found, low=0.9) == state


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (estimate(0.5, 0.9, 1.2), "holds"),
        (estimate(0.5, 1.1, 1.2), "undecided"),
        (estimate(1.01, 1.1, 1.2), "fails"),
    ],
)
def test_at_most(found: Estimate, state: State) -> None:
    assert judge(found, high=1.0) == state


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (estimate(5.0, 6.0, 7.0), "holds"),
        (estimate(4.9, 6.0, 7.0), "undecided"),
        (estimate(3.0, 4.0, 4.9), "fails"),
    ],
)
def test_proven(found: Estimate, state: State) -> None:
    assert judge(found, low=5.0, proven=True) == state


def test_a_truth_is_missed_on_either_side() -> None:
    states = [judge(estimate(v - 1, v, v + 1), low=95.0, high=105.0) for v in (93, 94, 100, 107)]
    assert states == ["fails", "undecided", "holds", "fails"]


def test_the_interval_is_wider_than_that_of_a_verdict() -> None:
    above = [10.3, 11.1, 12.7, 13.2, 14.9, 15.4, 9.6, 12.1, 11.8]
    below = [10.1, 9.3, 11.6, 10.9, 9.7, 12.2, 8.4, 10.6, 9.9]
    narrow, wide = ratio_to(above, below), judging.ratio(below, above)
    assert wide.value == narrow.ratio
    assert wide.interval.low < narrow.ci.low
    assert wide.interval.high > narrow.ci.high


def test_rounds_are_paired() -> None:
    host = [100.0, 200.0, 50.0, 400.0, 120.0]
    found = judging.ratio(host, [1.5 * rate for rate in host])
    assert found == Estimate(1.5, Interval(low=1.5, high=1.5))


def test_the_better_of_two_is_chosen_in_every_resample() -> None:
    base = [1.0] * 7
    one, two = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], [7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]
    both, alone = judging.ratio(base, one, two), judging.ratio(base, one)
    assert both.value == alone.value == 4.0
    assert both.interval.low > alone.interval.low


def test_a_single_round_decides_nothing() -> None:
    assert judging.ratio([1.0], [0.1]).interval == UNKNOWN
    assert judge(judging.ratio([1.0], [0.1]), low=0.9) == "undecided"


def test_an_interval_is_widened_by_the_normal_quantiles() -> None:
    found = judging.widened(1.0, Interval(low=math.exp(-1.96), high=math.exp(1.96)))
    assert math.log(found.interval.high) == pytest.approx(2.576, abs=1e-3)
    assert judging.widened(1.0, Interval(low=0.0, high=math.inf)).interval == UNKNOWN


def test_the_spread_of_five_is_hardly_known() -> None:
    found = judging.spread([100.0, 110.0, 90.0, 105.0, 95.0])
    assert found.value == pytest.approx(0.0791, abs=1e-4)
    # The 0.5% and 99.5% quantiles of chi2(4) are 0.207 and 14.86.
    assert found.interval.low == pytest.approx(found.value * math.sqrt(4 / 14.860), rel=1e-3)
    assert found.interval.high == pytest.approx(found.value * math.sqrt(4 / 0.20699), rel=1e-3)


def test_a_part_is_registered_once() -> None:
    parts: dict[str, Part] = {}
    part("one", parts=parts)(lambda bench: [])
    part("two", full=True, parts=parts)(lambda bench: [])
    assert [(p.name, p.full) for p in parts.values()] == [("one", False), ("two", True)]
    with pytest.raises(ValueError, match="'one' already"):
        part("one", full=True, parts=parts)(lambda bench: [])


def test_the_audits_have_their_parts() -> None:
    # A set, because another test module may have imported the parts in another order.
    short = {p.name for p in command.chosen(full=False, names=None)}
    full = {p.name for p in command.chosen(full=True, names=None)}
    limits = ["known_step", "known_generator", "wasteful_map"]
    at_edges = ["late_start", "buffer_memory", "first_batch", "protocols"]
    at_edges += ["emulated_step", "emulated_cores", "emulated_beside"]
    assert short == {*PLANTED, "shared_cores", *limits, *at_edges, "same_data"}
    assert full == {
        *(f"studies_{name}" for name in PLANTED),
        "studies_shared_cores",
        "copied_shards",
        "limit_repeats",
        "cheapest",
        "pauses",
    }
    with pytest.raises(UsageError, match="no part 'limit_repeats' in this audit"):
        command.chosen(full=False, names=["limit_repeats"])


class AuditRunner(FakeRunner):
    """Gives each trial a rate by its number of map calls, and diagnoses without a process."""

    def __init__(self) -> None:
        super().__init__([])
        self.inspected = 0

    def inspect(self, pipeline: str, seed: int, device: Device) -> PipelineInfo:
        self.inspected += 1
        return INFO.model_copy(update={"target": pipeline, "batch_sizes": [8]})

    def measure_stages(
        self,
        pipeline: str,
        seed: int,
        device: Device,
        deadline_s: float = 0.0,
        cluster: str | None = None,
    ) -> StageCosts | TrialFailure:
        return COSTS

    def measure(self, spec: TrialSpec) -> Measurement | TrialFailure:
        self.specs.append(spec)
        calls = spec.config.map_parallelism
        return measurement(100.0 * int(calls) if calls != "auto" else 50.0)


def truth(config: PipelineConfig) -> PlantedTruth:
    return PlantedTruth(
        config=config,
        examples_per_s=1.0,
        ci=Interval(low=1.0, high=1.0),
        ratio_to_autotune=None,
        ratio_ci=None,
        rounds=30,
        target=PLANTED["blocking_map"],
        source_digest=INFO.source_digest,
        host="here",
    )


Opener = Callable[..., AuditBench]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opener]:
    journals: list[Journal] = []

    def bench(runner: TrialRunner, **truths: PlantedTruth) -> AuditBench:
        for earlier in journals:
            earlier.close()
        journals.append(Journal(tmp_path / "audit.jsonl", {"sources": "s"}))
        return AuditBench(runner, journals[-1], truths)

    yield bench
    for journal in journals:
        journal.close()


def test_first_trials_are_held_against_the_grids_best(opened: Opener) -> None:
    runner = AuditRunner()
    (line,) = first_trials(opened(runner, blocking_map=truth(BEST)), "blocking_map")
    assert line.expected == "at least 0.9x the grid's best"
    brief = [spec.config for spec in runner.specs if spec.stop == BRIEF]
    calls = max(int(config.map_parallelism) for config in brief)
    assert len(runner.specs) == len(brief) + 7 * (GUESSES + 1)
    assert line.measured.startswith(f"{calls / 8:.2f}x ({calls / 8:.2f}x to")
    assert line.state == ("holds" if calls >= 0.9 * 8 else "fails")


@pytest.mark.parametrize(("held_mib", "state"), [(32.0, "holds"), (10.0, "fails")])
def test_the_memory_of_buffers_is_held_against_what_they_hold(
    opened: Opener, held_mib: float, state: State
) -> None:
    class Buffers(AuditRunner):
        def measure(self, spec: TrialSpec) -> Measurement | TrialFailure:
            large = spec.config.prefetch_buffer == edges.LARGE
            return measurement(100.0, peak_mib=7.0 + held_mib * large)

    (line,) = edges.buffer_memory(opened(Buffers()))

    assert (line.state, line.measured.partition(" MiB")[0]) == (state, f"{held_mib:.1f}")


@pytest.mark.parametrize(("chosen", "state"), [(64, "holds"), (32, "holds"), (1, "fails")])
def test_the_recommended_buffer_is_held_against_every_other(
    opened: Opener, monkeypatch: pytest.MonkeyPatch, chosen: int, state: State
) -> None:
    class Pausing(AuditRunner):
        def measure(self, spec: TrialSpec) -> Measurement | TrialFailure:
            assert spec.stop.max_s == 60.0
            return measurement(730.0 + 1.0 * int(spec.config.prefetch_buffer))

    bench = opened(Pausing())
    config = PipelineConfig(batch_size=16, prefetch_buffer=chosen, map_parallelism=1)
    studied = Studied(study="p", recommended=config, limit=None, fractions=[])
    monkeypatch.setattr(bench, "study", lambda *_: studied)

    (line,) = pauses.pauses(bench)

    assert line.state == state
    assert "64: 794" in line.measured


def test_what_a_part_measured_is_not_measured_again(opened: Opener) -> None:
    whole, again = AuditRunner(), AuditRunner()
    first = first_trials(opened(whole, blocking_map=truth(BEST)), "blocking_map")
    assert first_trials(opened(again, blocking_map=truth(BEST)), "blocking_map") == first
    assert whole.specs
    assert not again.specs
    assert again.inspected == 0


def test_without_a_truth_nothing_is_decided_and_nothing_measured(opened: Opener) -> None:
    runner = AuditRunner()
    parts = {"one": Part("one", False, lambda bench: first_trials(bench, "blocking_map"))}
    (line,) = run_parts(parts.values(), opened(runner))
    assert (line.state, runner.specs) == ("undecided", [])
    assert "no truth of blocking_map" in line.measured


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (NotMeasuredError("no diagnosis"), "fails"),
        (PipelineError("no such pipeline"), "fails"),
        (UnavailableError("not yet"), "undecided"),
    ],
)
def test_a_part_that_cannot_be_measured_is_a_line(
    opened: Opener, error: Exception, state: State
) -> None:
    def broken(bench: AuditBench) -> list[Line]:
        raise error

    bench = opened(AuditRunner())
    parts = [Part("broken", False, broken), Part("good", False, lambda bench: [LINE])]
    lines = run_parts(parts, bench)
    assert [(line.state, line.measured) for line in lines] == [
        (state, str(error)),
        ("holds", "1 | 2"),
    ]
    assert [entry["key"] for entry in bench.journal.of("lines")] == ["broken", "good"]


def test_a_known_step_and_generator() -> None:
    def measured(**changes: float) -> Callable[[str, int], LimitTerms]:
        return lambda target, batch_size: TERMS.model_copy(update=changes)

    assert known_step_lines(measured())[0].state == "holds"
    assert known_step_lines(measured(step_examples_per_s=933.0))[0].state == "holds"
    assert known_step_lines(measured(step_examples_per_s=833.0))[0].state == "fails"
    assert known_step_lines(measured(step_examples_per_s=1_133.0))[0].state == "fails"
    states = [line.state for line in known_generator_lines(measured(step_examples_per_s=160.0))]
    assert states == ["holds", "fails"]


def test_the_limit_counts_the_cheaper_map_only() -> None:
    assert wasteful_map_lines(lambda *_: TERMS)[0].state == "holds"
    dear = TERMS.model_copy(update={"map_cpu_s": 2.1e-4})
    assert wasteful_map_lines(lambda *_: dear)[0].state == "fails"
    assert wasted_fraction_line([10.0, 11.0, 12.0], limit=100.0).state == "holds"
    assert wasted_fraction_line([98.0, 99.0, 97.0], limit=100.0).state == "fails"
    assert wasted_fraction_line([], limit=100.0).state == "fails"


def studied(*fractions: tuple[float, float, float]) -> Studied:
    reached = [
        Reached(candidate="tuned-1", value=value, ci=Interval(low=low, high=high))
        for low, value, high in fractions
    ]
    return Studied(study="s", recommended=BEST, limit=1.0, fractions=reached)


def test_a_fraction_above_one_must_be_proven_to_fail() -> None:
    fine = fractions_line("p", "", [studied((0.5, 0.6, 0.7)), studied((0.97, 1.02, 1.07))])
    assert fine.state == "holds"
    assert fractions_line("p", "", [studied((1.1, 1.12, 1.14))]).state == "fails"
    assert fractions_line("p", "", [studied()]).state == "fails"


def test_limits_of_repeated_studies() -> None:
    assert repeats_line("", [100.0, 101.0, 99.0, 100.0, 102.0]).state == "holds"
    assert repeats_line("", [100.0, 125.0, 82.0, 100.0, 108.0]).state == "undecided"
    assert repeats_line("", [100.0, 200.0, 50.0, 10.0, 102.0]).state == "fails"
    assert repeats_line("", [100.0, 101.0]).state == "fails"


def test_a_table_is_put_between_its_markers() -> None:
    text = "a\n<!-- audit:begin -->\nold\n<!-- audit:end -->\nb\n<!-- audit-full:begin -->\n"
    text += "full\n<!-- audit-full:end -->\nc\n"
    once = between_markers(text, "audit", ["new", "lines"])
    assert once == text.replace("old", "new\nlines")
    assert between_markers(once, "audit", ["new", "lines"]) == once
    assert "full\n" in once


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<!-- audit:begin -->",
        "<!-- audit:end --><!-- audit:begin -->",
        "<!-- audit:begin --><!-- audit:end --><!-- audit:begin -->",
    ],
)
def test_a_document_without_markers_stays_as_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "measured.md"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DocumentError, match=r"measured\.md: it needs <!-- audit:begin -->"):
        rewrite(path, "audit", ["new"])
    assert path.read_text(encoding="utf-8") == text


def test_the_document_has_both_places() -> None:
    text = command.DOCUMENT.read_text(encoding="utf-8")
    for name in ("audit", "audit-full"):
        assert "new" in between_markers(text, name, ["new"])


def test_cells_cannot_break_the_table() -> None:
    broken = LINE.model_copy(update={"planted": "one\ntwo"})
    assert table([broken])[-1] == "| a | one two | c | 1 \\| 2 | *holds* |"


def test_truths_are_collected_of_finished_grids(tmp_path: Path) -> None:
    path = tmp_path / "grid.jsonl"
    pinned = {"target": PLANTED["blocking_map"], "source_digest": "c" * 64, "host": "here"}
    with Journal(path, {**pinned, "points": 8}, name="blocking_map") as journal:
        with pytest.raises(JournalError, match="no truth yet"):
            collected(path)
        found = truth(BEST).model_dump(exclude={"target", "source_digest", "host"})
        journal.add("truth", "truth", **found)
    assert collected(path) == ("blocking_map", truth(BEST))
    assert load_truths(tmp_path / "none.json") == {}


@pytest.mark.parametrize(("state", "code"), [("holds", 0), ("undecided", 0), ("fails", 1)])
def test_only_a_line_that_fails_fails_the_audit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: State, code: int
) -> None:
    line = LINE.model_copy(update={"state": state})
    document = tmp_path / "measured.md"
    document.write_text("<!-- audit:begin -->\n<!-- audit:end -->\n", encoding="utf-8")
    monkeypatch.setattr(command, "FOLDER", tmp_path)
    monkeypatch.setattr(command, "DOCUMENT", document)
    monkeypatch.setattr(command, "TrialRunner", AuditRunner)
    monkeypatch.setattr(command, "chosen", lambda *_: [Part("one", False, lambda bench: [line])])
    assert command.main(["--write"]) == code
    assert f"*{state}*" in document.read_text(encoding="utf-8")


def test_a_part_of_a_table_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--part", "known_step", "--write"]) == 2
    assert "without --part" in capsys.readouterr().err


def test_studies_are_kept_under_an_absolute_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """MLflow needs absolute artifact paths; the journal's folder is relative to the checkout."""
    stores: list[Store] = []

    class Nothing:
        records: ClassVar[list[object]] = []
        problems: ClassVar[list[str]] = ["nothing"]

        def __init__(self, store: Store, *_: object) -> None:
            stores.append(store)

        def tune(self, *_: object) -> None:
            pass

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("benchmarks.audit.access.Tuning", Nothing)
    with pytest.raises(NotMeasuredError, match="nothing"):
        run_study(AuditRunner(), Path("mlruns/audit"), "target", "name", 1)

    assert stores[0].artifacts == tmp_path / "mlruns" / "audit" / "artifacts"
