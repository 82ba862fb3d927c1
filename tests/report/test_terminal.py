"""The last screen fits into 80 columns, cuts no name, and says what to use."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from prefetch_tuning.experiments.commands.progress import ConsoleProgress
from prefetch_tuning.experiments.report.console_table import print_rows
from prefetch_tuning.experiments.report.terminal import print_candidates, print_results
from prefetch_tuning.experiments.storage.results import StudyRecord
from tests.support import report_records

NAME = "a-pipeline-with-a-long-name-20261122-185305"
RECORDS = [
    report_records.full(),
    report_records.step_bound(),
    report_records.unconfirmed(),
    report_records.nothing(),
]


def shown(*records: StudyRecord, code: dict[str, str] | None = None) -> str:
    text = io.StringIO()
    print_results(Console(file=text, width=80), records, code)
    return text.getvalue()


def named(record: StudyRecord) -> StudyRecord:
    return record.model_copy(update={"result": record.result.model_copy(update={"study": NAME})})


def test_several_pipelines_have_a_line_each() -> None:
    text = shown(*RECORDS)
    table = text.split("image: ")[0]

    assert table.count("image") == 3
    assert table.count("lost") == 1
    assert "x (" in table
    assert "unconfirmed" in table
    assert "no result" in table


@pytest.mark.parametrize("record", RECORDS)
def test_every_line_fits_and_the_study_is_named_in_full(record: StudyRecord) -> None:
    text = shown(named(record))

    assert max(len(line) for line in text.splitlines()) <= 80
    assert NAME in text


def test_the_settings_come_first_and_the_code_can_be_copied() -> None:
    path = "mlruns/artifacts/12/" + "f" * 32 + "/artifacts/snippet.py"
    record = report_records.full()
    lines = shown(record, record, code={record.result.study: path}).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("image: "))

    assert lines[at + 1].split() == ["use", "batch", "128,", "prefetch", "3,", "map", "3"]
    assert f"  code  {path}" in lines


def test_the_code_of_a_single_study_is_printed() -> None:
    record = report_records.full()

    assert "def make_dataset(" in shown(record, code={})
    assert "def make_dataset(" not in shown(record, record, code={})
    assert "def make_dataset(" not in shown(record)


def test_a_table_that_does_not_fit_is_a_list() -> None:
    rows = [[NAME, "simple", "x" * 30], ["[bold]short[/]", "image", "y"]]
    wide, narrow = io.StringIO(), io.StringIO()
    print_rows(Console(file=wide, width=120), "Studies", ["study", "pipeline", "more"], rows)
    print_rows(Console(file=narrow, width=60), "Studies", ["study", "pipeline", "more"], rows)

    assert any(NAME in line and "simple" in line for line in wide.getvalue().splitlines())
    lines = [line.rstrip() for line in narrow.getvalue().splitlines()]
    assert lines[:3] == ["Studies", NAME, "  pipeline simple"]
    assert "[bold]short[/]" in lines


def test_the_candidates_are_never_cut() -> None:
    text = io.StringIO()
    print_candidates(Console(file=text, width=80), report_records.full())

    assert max(len(line) for line in text.getvalue().splitlines()) <= 80
    assert "…" not in text.getvalue()
    assert "batch 128, prefetch 3, map 3" in text.getvalue()


def progress(budget_s: float | None, *, terminal: bool) -> str:
    text = io.StringIO()
    console = Console(file=text, width=100, force_terminal=terminal, color_system=None)
    steps = ConsoleProgress(console).steps("image: searching", "trial", 0, 24, budget_s)
    with steps.shown():
        for number in range(3):
            steps.advance("best 10 examples/s", f"config {number}: 10 examples/s")
    return text.getvalue()


def test_progress_says_what_is_done_and_ends_where_the_work_ends() -> None:
    shown = re.sub(r"\x1b\[[?\d]*[A-Za-z]", "", progress(20.0, terminal=True)).split("\r")
    last = next(line for line in reversed(shown) if line.strip())

    assert last.startswith("image: searching ━━━━━━━━━━━━━━━━ 3 trials in ")
    assert not any("/24" in line for line in shown)


def test_without_a_terminal_each_step_is_a_line() -> None:
    lines = progress(20.0, terminal=False).splitlines()
    assert lines[0] == "image: searching, trial 1 of at most 24: config 0: 10 examples/s"

    lines = progress(None, terminal=False).splitlines()
    assert lines[2] == "image: searching, trial 3 of 24: config 2: 10 examples/s"
