"""The verdict of a study that keeps an accelerator busy, from made-up rounds."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from prefetch_tuning.experiments.report.document import Report
from prefetch_tuning.experiments.report.tables import confirmation_table
from prefetch_tuning.experiments.report.target_words import fed_step, what_it_takes
from prefetch_tuning.experiments.report.terminal import print_results
from prefetch_tuning.experiments.report.verdict_words import tone, verdict
from prefetch_tuning.experiments.storage.results import StudyRecord
from prefetch_tuning.experiments.verdict.measurements import AUTOTUNE
from tests.support import report_records


def with_step(line: str) -> StudyRecord:
    record = report_records.by_target()
    target = record.info.target.partition(",")[0]
    info = record.info.model_copy(update={"target": f"{target}{line}"})
    return record.model_copy(update={"info": info})


def test_it_says_what_is_fed_how_busy_it_is_and_at_what_cost() -> None:
    said = verdict(report_records.by_target())

    assert said == (
        "image: feeds an H100 training ResNet50 (emulated): 97% busy (97% to 98%) with batch 128, "
        "prefetch 3, map 3, 1.30 cores, 120 MiB; AUTOTUNE keeps it 30% busy."
    )
    assert tone(report_records.by_target().result) == "good"


def test_where_autotune_reaches_it_too_it_says_what_the_cheaper_settings_give_back() -> None:
    record = report_records.by_target(autotune=0.99)

    assert verdict(record).endswith(
        "; AUTOTUNE also reaches the target, but takes 0.80 cores and 280 MiB more."
    )


def test_where_nothing_is_cheaper_autotune_is_enough() -> None:
    record = report_records.by_target(autotune=0.99, cpu_us={AUTOTUNE: 900.0})

    assert record.result.recommended is not None
    assert record.result.recommended.candidate == AUTOTUNE
    assert "97" not in verdict(record)
    assert verdict(record).startswith("image: feeds an H100 training ResNet50 (emulated): 99% busy")
    assert "with AUTOTUNE, 0.90 cores" in verdict(record)


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        # 2 cores make 555 examples/s at 3.6 ms each, and 900 are wanted.
        ({"map_cpu_s": 3.34e-3}, "Keeping it 90% busy takes 3.2 cores like these (there are 2)"),
        (
            {"generator_examples_per_s": 300.0},
            "Keeping it 90% busy takes a generator 3.0x as fast (it makes at most 300 examples/s "
            "in 1 process; 900 are needed)",
        ),
        (
            {},
            "Cores and generator allow 4.65x the step's rate, so a longer search (--trials) may "
            "find settings that reach it",
        ),
    ],
)
def test_out_of_reach_it_says_what_it_would_take(terms: dict[str, float], said: str) -> None:
    record = report_records.by_target(tuned=0.6, terms=terms)

    assert what_it_takes(record.result) == said
    assert verdict(record).startswith(
        "image: cannot keep an H100 training ResNet50 (emulated) 90% busy: at most 60% ("
    )
    assert verdict(record).endswith(f"{said}.")
    assert tone(record.result) == "bad"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (",step=12ms", "a step of 12ms (emulated)"),
        (",step=4ms+0.1ms/example@cosmoflow-a100", "an A100 training CosmoFlow (emulated)"),
        (",step=12ms@run-1a2b3c4d", "the step of run 1a2b3c4d (emulated)"),
        (",step=12ms@my-gpu", "the step of my-gpu (emulated)"),
        ("", "the training step"),
    ],
)
def test_it_names_what_is_fed(line: str, said: str) -> None:
    assert fed_step(with_step(line)) == said


def test_table_terminal_and_report_show_utilisation_and_cores() -> None:
    record = report_records.by_target()
    found = confirmation_table(record)
    text = io.StringIO()
    print_results(Console(file=text, width=200), [record, record])

    assert list(found.headings[2:5]) == ["busy", "target", "cores"]
    assert found.rows[0][2:5] == ("97% (97% to 98%)", "reached", "1.30")
    assert [row[3] for row in found.rows] == ["reached", "reached", "missed", "missed"]
    assert "busy" in text.getvalue()
    assert "1.30 to feed the step fully; 1.26 of 2 in use" in text.getvalue()
    page = Report(record).html()
    assert "feeds an H100 training ResNet50 (emulated)" in page
    assert "1.30 to feed the step fully" in page


def test_without_a_target_neither_is_shown() -> None:
    found = confirmation_table(report_records.full())

    assert "busy" not in found.headings
