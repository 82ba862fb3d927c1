"""The document on the results of all built-in pipelines: what it says."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from benchmarks.bench import Rates
from benchmarks.result_parts.aims import aims
from benchmarks.result_parts.before import Before, before, smaller, smaller_rows
from benchmarks.result_parts.document import (
    document,
    fresh_row,
    gain_row,
    limit_words,
    rates_row,
    short_table,
)
from benchmarks.result_parts.plot import plot
from benchmarks.result_parts.run import RECOMMENDED, ROUNDS, Outcome, found, pair_of
from prefetch_tuning.experiments.storage.results import StudyRecord
from prefetch_tuning.experiments.verdict.confirmation import Gain, Speedup
from prefetch_tuning.experiments.verdict.measurements import AUTOTUNE, BASIC, STRUCTURE_AUTOTUNE
from prefetch_tuning.objectives.measurement import Interval
from prefetch_tuning.pipelines import catalog
from tests.support import report_records

OLD = before()


def speedup(candidate: str, baseline: str, ratio: float) -> Speedup:
    ci = Interval(low=0.9 * ratio, high=1.1 * ratio)
    return Speedup(ratio=ratio, ci=ci, verdict="faster", candidate=candidate, baseline=baseline)


def rounds(ratio: float, spread: float = 0.01) -> list[Rates]:
    """Fresh rounds in which AUTOTUNE's rate drifts and the ratio to it varies by `spread`."""
    found = []
    for number in range(ROUNDS):
        autotune = 1_000.0 + 10.0 * number
        here = ratio * (1.0 + spread * (number % 3 - 1))
        found.append({AUTOTUNE: autotune, RECOMMENDED: here * autotune})
    return found


def named(record: StudyRecord, name: str) -> StudyRecord:
    return record.model_copy(update={"info": record.info.model_copy(update={"name": name})})


def with_structure() -> StudyRecord:
    """The full record with the two candidates that separate structure from settings."""
    record = report_records.full()
    autotune = found(record, AUTOTUNE)
    assert autotune is not None
    more = [
        autotune.model_copy(update={"candidate": STRUCTURE_AUTOTUNE, "examples_per_s": 3_502.0}),
        autotune.model_copy(update={"candidate": BASIC, "examples_per_s": 3_433.0}),
    ]
    gain = Gain(
        structure=speedup(STRUCTURE_AUTOTUNE, AUTOTUNE, 6.0),
        settings=speedup("trial-17", STRUCTURE_AUTOTUNE, 1.5),
    )
    changes: dict[str, Any] = {
        "gain": gain,
        "confirmation": [*record.result.confirmation, *more],
        "baselines": {AUTOTUNE: autotune},
    }
    return record.model_copy(update={"result": record.result.model_copy(update=changes)})


def aim_about(text: str, outcomes: list[Outcome]) -> str:
    return next(line for line in aims(outcomes) if text in line)


# ---- the document


def test_the_rates_have_every_candidate_and_the_share_of_the_limit() -> None:
    row = rates_row(Outcome(with_structure(), rounds(1.09)))
    assert "| image | 128 |" in row
    assert "3,502" in row
    assert "3,433" in row
    assert row.endswith("% |")
    assert "x (" in row


def test_the_gain_is_told_apart_with_intervals() -> None:
    row = gain_row(Outcome(with_structure(), []))
    assert "| 6.0x (5.4x to 6.6x) | 1.50x (1.35x to 1.65x) |" in row
    assert gain_row(Outcome(report_records.full(), [])) == "| image | - | - | - |"


def test_fresh_rounds_stand_beside_those_that_chose() -> None:
    row = fresh_row(Outcome(report_records.full(), rounds(1.25)))
    assert row.startswith("| image | 1.25x (1.2")
    assert f"| {ROUNDS} | 1.0" in row


def test_the_readme_has_a_row_per_pipeline_with_its_fresh_ratio() -> None:
    rows = list(short_table([Outcome(report_records.full(), rounds(1.25))]))
    assert len(rows) == 3
    assert rows[2].startswith("| image | ")
    assert "| 1.25x (1.2" in rows[2]


def test_autotune_that_is_recommended_needs_no_ratio() -> None:
    outcome = Outcome(report_records.step_bound(), [])
    assert outcome.times == 1.0
    assert "1x: AUTOTUNE is recommended" in fresh_row(outcome)
    assert pair_of(outcome.record) is None


def test_the_limit_is_said_with_its_terms() -> None:
    words = limit_words(Outcome(report_records.full(), rounds(1.1)))
    assert "of the limit" in words
    assert "Terms: step 9,100, generator " in words
    assert ", CPU " in words


@pytest.mark.parametrize(
    "record",
    [
        report_records.full(),
        report_records.step_bound(),
        report_records.nothing(),
        report_records.unconfirmed(),
        with_structure(),
    ],
    ids=["full", "step-bound", "nothing", "unconfirmed", "structure"],
)
def test_every_record_makes_a_whole_document_and_a_plot(
    record: StudyRecord, tmp_path: Path
) -> None:
    lines = "\n".join(document("results-1", [Outcome(record, [])])).split("\n")
    assert lines[0].startswith("# ")
    tables = [line for line in lines if line.startswith("|")]
    assert len(tables) >= 12
    assert not any("None" in line or "nan" in line for line in lines)
    # A row with more or fewer columns than its heading would break the table.
    for above, below in pairwise(lines):
        if above.startswith("|") and below.startswith("|"):
            assert above.count("|") == below.count("|")
    plot([record], tmp_path / "results.svg")
    assert "<svg" in (tmp_path / "results.svg").read_text(encoding="utf-8")


# ---- the aims


def test_only_an_interval_wholly_below_one_is_slower() -> None:
    near = Outcome(report_records.full(), rounds(0.99, spread=0.05))
    met = aim_about("no recommendation slower", [near])
    assert met.startswith("- met: ")
    assert "the lowest interval begins at 0.9" in met
    failed = aim_about(
        "no recommendation slower", [near, Outcome(report_records.full(), rounds(0.8))]
    )
    assert failed.startswith("- **not met**: ")
    assert "slower: image 0.80x" in failed


def test_a_recommendation_without_a_comparison_does_not_pass() -> None:
    without = Outcome(report_records.full(), [{AUTOTUNE: 900.0}])
    words = aim_about("no recommendation slower", [without])
    assert words.startswith("- **not met**: ")
    assert "without a comparison: image" in words


def test_mean_and_median_are_of_the_fresh_rounds() -> None:
    outcomes = [
        Outcome(named(report_records.full(), name), rounds(ratio, spread=0.0))
        for name, ratio in (("simple", 64.0), ("text", 4.0))
    ]
    outcomes.append(Outcome(named(report_records.step_bound(), "keras_sequence"), []))
    words = aim_about("geometric mean", outcomes)
    assert words.startswith("- met: the 3 ratios on fresh rounds: geometric mean 6.3, median 4.0")
    assert aim_about("`simple`", outcomes).startswith(
        "- met: ratio of `simple` on fresh rounds: 64"
    )
    assert "AUTOTUNE itself is recommended for keras_sequence" in "\n".join(aims(outcomes))


# ---- what became smaller


def test_every_built_in_pipeline_has_its_old_figures() -> None:
    assert list(OLD.pipelines) == catalog.names()
    ratios = [claim.ratio for claim in OLD.pipelines.values()]
    mean = 1.0
    for ratio in ratios:
        mean *= ratio ** (1.0 / len(ratios))
    assert round(mean, 1) == OLD.geometric_mean


def test_smaller_claims_are_listed_with_old_and_new() -> None:
    simple = named(report_records.full(), "simple")
    lines = list(smaller([Outcome(simple, rounds(50.0))]))
    fraction = simple.result.fraction
    assert fraction is not None
    assert "since the first page of 0.1" in lines[0]
    assert "was computed from the configuration that it judged" in lines[1]
    assert "| simple | over AUTOTUNE | 75x (63x to 78x) | 50x (" in "\n".join(lines)
    listed = any("of its limit | 73%" in line for line in lines)
    assert listed == (fraction.share < 0.73)


def test_what_grew_or_was_not_claimed_is_not_listed() -> None:
    small = {"ratio": 1.0, "low": 1.0, "high": 1.0, "fraction": 0.01}
    then = Before.model_validate(
        {"version": "0.1", "geometric_mean": 1.0, "pipelines": {"image": small}}
    )
    outcomes = [
        Outcome(report_records.full(), rounds(2.0)),
        Outcome(named(report_records.full(), "another"), rounds(0.5)),
    ]
    assert list(smaller_rows(then, outcomes)) == []


def test_a_mean_over_other_pipelines_is_another_claim() -> None:
    rows = list(smaller_rows(OLD, [Outcome(report_records.full(), rounds(1.1))]))
    assert not any("geometric mean" in row for row in rows)
    all_of_them = [
        Outcome(named(report_records.full(), name), rounds(1.1, spread=0.0))
        for name in OLD.pipelines
    ]
    assert "| all | geometric mean of the ratios | 9.0 | 1.1 |" in smaller_rows(OLD, all_of_them)
