"""The results of all built-in pipelines: what is measured, and how a run resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest

from benchmarks import results
from benchmarks.bench import kept_rounds
from benchmarks.journal import Journal
from benchmarks.result_parts import run as results_run
from benchmarks.result_parts.run import RECOMMENDED, ROUNDS, outcome_of, pair_of, part_of
from prefetch_tuning.experiments.api import Tuned
from prefetch_tuning.experiments.errors import UsageError
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.verdict.measurements import AUTOTUNE
from prefetch_tuning.objectives.measurement import TrialFailure
from prefetch_tuning.objectives.spec import StopRule, TrialSpec
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.source import PipelineError
from tests.support import report_records
from tests.support.fakes import FakeRunner, measurement

STORE = Store("", "", None, None)


class Runner(FakeRunner):
    """Gives every configuration the same rate, starts no process, and counts what it measures."""

    measured: ClassVar[list[PipelineConfig]] = []
    stop_after: ClassVar[int | None] = None

    def __init__(self) -> None:
        super().__init__([])

    def start(self) -> None:
        pass

    def measure(self, spec: TrialSpec) -> Any:
        assert spec.stop == StopRule()
        if self.stop_after is not None and len(self.measured) >= self.stop_after:
            raise KeyboardInterrupt
        self.measured.append(spec.config)
        if len(self.measured) == 3:
            return TrialFailure(kind="crash", detail="ended by signal 11")
        return measurement(1_000.0)


@pytest.fixture
def studies(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replaces tuning with a stand-in that measures nothing; gives the studies asked for."""
    asked: list[str] = []

    def tune(pipeline: str, *, study: str, **options: object) -> Tuned:
        asked.append(study)
        return Tuned([report_records.full()], [])

    monkeypatch.setattr(results_run, "tune", tune)
    monkeypatch.setattr(results_run, "kept_record", lambda study, store: report_records.full())
    monkeypatch.setattr(results_run, "TrialRunner", Runner)
    monkeypatch.setattr(Runner, "measured", [])
    monkeypatch.setattr(Runner, "stop_after", None)
    return asked


def test_a_run_goes_on_where_it_stopped(
    studies: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.jsonl"
    monkeypatch.setattr(Runner, "stop_after", 7)
    with Journal(path, {}) as journal, pytest.raises(KeyboardInterrupt):
        outcome_of("run", "image", journal, STORE)
    monkeypatch.setattr(Runner, "stop_after", None)
    for _ in range(2):
        with Journal(path, {}) as journal:
            outcome = outcome_of("run", "image", journal, STORE)
    assert studies == ["run-image"]
    # The round that was cut off is measured again, as a whole.
    assert len(Runner.measured) == 2 * ROUNDS + 1
    # One trial failed. It isn't run again, and its round drops out of the comparison.
    assert len(outcome.fresh) == ROUNDS
    assert outcome.whole_rounds == ROUNDS - 1
    assert outcome.times == 1.0


def test_the_pair_is_compared_at_the_same_batch_size() -> None:
    pair = pair_of(report_records.full())
    assert pair is not None
    assert pair[AUTOTUNE] == PipelineConfig.autotune(128)
    assert pair[RECOMMENDED].batch_size == 128


def test_another_recommendation_has_rounds_of_its_own(tmp_path: Path) -> None:
    one, other = report_records.BEST, report_records.OTHER
    with Journal(tmp_path / "run.jsonl", {}) as journal:
        journal.add(part_of("image", one), "00/autotune", config=one, examples_per_s=5.0)
        journal.add(part_of("image", one), "00/recommended", config=one, examples_per_s=None)
        assert kept_rounds(journal, part_of("image", one)) == [{"autotune": 5.0}]
        assert kept_rounds(journal, part_of("image", other)) == []


def test_the_pipelines_of_a_run_are_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    with Journal(tmp_path / "run.jsonl", {}, pipelines=["text", "jpeg"]):
        pass
    assert results.chosen([], "run") == ["text", "jpeg"]
    assert results.chosen(["jpeg"], "run") == ["jpeg"]
    assert results.chosen([], None) == catalog.names()
    with pytest.raises(UsageError, match=r"no run named 'walk'.*run"):
        results.chosen([], "walk")
    with pytest.raises(PipelineError, match="no built-in pipeline named 'txt'"):
        results.chosen(["txt"], None)
