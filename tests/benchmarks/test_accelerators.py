"""Chooses steps for pipelines to feed, and writes the page about them."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.accelerators import __main__ as accelerators
from benchmarks.accelerators.document import document
from benchmarks.accelerators.run import Outcome
from benchmarks.accelerators.steps import EASY_STEP, HARD_STEP, LONGEST_S, Fed, steps_for
from benchmarks.audit.access import NotMeasuredError
from benchmarks.result_parts.run import RECOMMENDED
from prefetch_tuning.experiments.verdict.measurements import AUTOTUNE
from prefetch_tuning.pipelines.step_time import StepTime
from tests.support import report_records


def test_the_easy_step_is_the_fastest_known_one_that_the_limit_covers_twice() -> None:
    easy, hard = steps_for(4_000.0, [16, 64])

    assert (easy.kind, easy.step.accelerator, easy.batch_size) == (EASY_STEP, "resnet50-h100", 64)
    assert (hard.kind, hard.batch_size) == (HARD_STEP, 64)
    assert 64 / hard.step.seconds(64) == pytest.approx(0.7 * 4_000.0)
    assert steps_for(2_000.0, [64])[0].step.accelerator == "resnet50-a100"


def test_a_step_that_would_take_too_long_gets_a_smaller_batch_or_is_left_out() -> None:
    easy, _ = steps_for(600.0, [8, 32, 256])

    assert easy.step.accelerator == "cosmoflow-h100"
    assert easy.batch_size == 32
    assert easy.step.seconds(32) <= LONGEST_S
    (only,) = steps_for(30.0, [256])
    assert only.kind == HARD_STEP


def outcome(kind: str, tuned: float, autotune: float = 300.0) -> Outcome:
    record = report_records.by_target(tuned=tuned)
    fed = Fed(kind, StepTime(per_example_ms=1.0, accelerator="resnet50-h100"), 128)
    fresh = [{RECOMMENDED: 1_000.0 * tuned, AUTOTUNE: autotune} for _ in range(9)]
    return Outcome(fed, record, fresh)


def test_the_page_has_a_table_per_kind_of_step_and_says_what_is_missing() -> None:
    page = "\n".join(document("run", [outcome(EASY_STEP, 0.97), outcome(HARD_STEP, 0.6)]))

    assert "## Known steps that the pipelines can feed" in page
    assert "| image | resnet50-h100 | 128 | 30% (30% to 30%) | 2.10 | 400 " in page
    assert "| 97% (97% to 97%) | 1.30 | 120 |" in page
    assert "## Hard steps" in page
    assert "- **image feeding 1ms/example@resnet50-h100**: reached" in page
    assert "Cores and generator allow 4.65x the step's rate" in page
    assert "cannot keep an H100 training ResNet50 (emulated) 90% busy" in page


def test_a_step_that_fails_costs_no_other_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    easy, hard = outcome(EASY_STEP, 0.97), outcome(HARD_STEP, 0.6)

    def outcome_of(name: str, pipeline: str, fed: Fed, *_: object) -> Outcome:
        if (pipeline, fed.kind) == ("image", EASY_STEP):
            raise NotMeasuredError("image: planted")
        return easy if fed.kind == EASY_STEP else hard

    monkeypatch.setattr(accelerators, "steps_of", lambda *_: [easy.fed, hard.fed])
    monkeypatch.setattr(accelerators, "outcome_of", outcome_of)

    found = accelerators.measure("run", tmp_path / "run.jsonl", ["image", "noisy"])

    assert found == [hard, easy, hard]
    assert "warning: image: planted" in capsys.readouterr().err
