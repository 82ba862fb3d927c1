"""Tunes a real pipeline in this process: diagnosis, search, confirmation and report."""

from __future__ import annotations

import json
import time
from collections import Counter
from io import StringIO
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from rich.console import Console

from prefetch_tuning.experiments.commands.progress import ConsoleProgress
from prefetch_tuning.experiments.errors import StoreError
from prefetch_tuning.experiments.settings import TuneRequest
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.results import write_json
from prefetch_tuning.experiments.storage.runs.tracking import Tracker
from prefetch_tuning.experiments.study.one_study import SHORT_TRIALS
from prefetch_tuning.experiments.study.tuning import Tuning
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.spec import StopRule
from tests.test_cli import prefetch_tune

pytestmark = pytest.mark.timing
RULE = StopRule(window_s=0.05, startup_s=0.06, warmup_max_s=1.0, min_windows=3, max_s=0.15)


class Tuned:
    """A folder in which the pipeline with the heavy model was tuned."""

    def __init__(self, folder: Path, runner: TrialRunner) -> None:
        self.folder = folder
        self.store = Store.choose(folder, None, None)
        self.console = Console(record=True, width=80, file=StringIO())
        tuning = Tuning(self.store, runner, ConsoleProgress(self.console))
        request = TuneRequest(
            pipelines=["tests.planted.costs:HeavyModel"],
            device="cpu",
            stop=RULE,
            study="heavy",
            confirm_budget_s=1.0,
        )
        tuning.tune(request, time.monotonic())
        [self.record] = tuning.records
        self.problems = tuning.problems

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=self.store.tracking_uri)

    def runs(self, kind: str) -> list[Run]:
        found = self.client.get_experiment_by_name("heavy_model")
        assert found is not None
        runs = self.client.search_runs([found.experiment_id])
        return [run for run in runs if run.data.tags["kind"] == kind]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, runner: TrialRunner) -> Tuned:
    return Tuned(tmp_path_factory.mktemp("tuned"), runner)


def test_a_heavy_model_has_nothing_to_gain(tuned: Tuned) -> None:
    result = tuned.record.result

    assert tuned.problems == []
    assert result.diagnosis is not None
    assert result.diagnosis.bottleneck == "step-bound"
    assert result.speedup is not None
    # About one interval in twenty misses 1 by chance, and then by little.
    assert result.speedup.ci.low < 1.1
    if result.speedup.verdict == "no significant difference":
        assert result.recommended is not None
        assert result.recommended.config.is_autotune
    assert result.limit is not None
    assert result.limit.binding in ("step", "cpu")


def test_a_step_bound_pipeline_gets_a_short_search_and_is_told(tuned: Tuned) -> None:
    assert tuned.record.result.trials.total == SHORT_TRIALS
    log = tuned.console.export_text(clear=False)
    assert "heavy_model: limited by the training step" in log
    assert f"heavy_model: a short search of {SHORT_TRIALS} trials is enough" in log


def test_the_record_says_what_was_predicted(tuned: Tuned) -> None:
    rows = tuned.record.trials

    assert rows[0].warm_start
    assert all(row.predicted_examples_per_s for row in rows)
    runs = {run.data.tags["trial_number"]: run for run in tuned.runs("trial")}
    for row in rows:
        metrics = runs[str(row.number)].data.metrics
        assert metrics["prediction/examples_per_s"] == row.predicted_examples_per_s
        assert ("warm_start" in runs[str(row.number)].data.tags) == row.warm_start


def test_every_round_of_every_candidate_is_a_run(tuned: Tuned) -> None:
    runs = tuned.runs("confirmation")
    confirmed = tuned.record.result.confirmation

    assert len(confirmed) >= 4
    # A beaten candidate comes back if the one that beat it falls behind, so a candidate's rounds
    # aren't always the first ones.
    found = Counter(run.data.tags["candidate"] for run in runs)
    assert found == {c.candidate: c.rounds for c in confirmed}
    assert len({(run.data.tags["candidate"], run.data.tags["round"]) for run in runs}) == len(runs)
    terms = [run.data.metrics for run in runs if run.data.tags["round"] == "0"]
    assert all({"ceiling/producer_only", "cpu/utilisation"} <= set(m) for m in terms)
    assert all(c.fraction is not None for c in confirmed)
    assert len({c.config.batch_size for c in confirmed}) == 1


def test_every_round_measures_the_limit_in_a_run_of_its_own(tuned: Tuned) -> None:
    runs = tuned.runs("limit")
    rounds = max(c.rounds for c in tuned.record.result.confirmation)

    assert {run.data.tags["round"] for run in runs} == {str(number) for number in range(rounds)}
    assert all(run.data.metrics["limit/step"] > 0.0 for run in runs)
    assert all(run.info.status == "FINISHED" for run in runs)


def test_the_parent_run_has_the_verdict_and_the_report(tuned: Tuned) -> None:
    [parent] = tuned.runs("study")
    result = tuned.record.result

    assert result.speedup is not None
    assert result.recommended is not None
    assert parent.data.tags["verdict"] == result.speedup.verdict
    assert parent.data.tags["diagnosis.class"] == "step-bound"
    metrics = parent.data.metrics
    assert result.limit is not None
    assert result.fraction is not None
    assert metrics["limit/fraction"] == result.fraction.share
    assert metrics["limit/cpu"] == result.limit.terms.cpu
    assert metrics["speedup/ratio"] == result.speedup.ratio
    assert metrics["diagnosis/step/wall_us"] > metrics["diagnosis/generator/wall_us"]
    files = {file.path for file in tuned.client.list_artifacts(parent.info.run_id)}
    assert files == {"report.html", "report.md", "snippet.py", "config.json"}
    note = parent.data.tags["mlflow.note.content"]
    assert result.speedup.verdict in note
    assert ("dataset.prefetch(tf.data.AUTOTUNE)" in note) is result.recommended.config.is_autotune


def test_json_has_what_was_promised(tuned: Tuned, tmp_path: Path) -> None:
    write_json([tuned.record.result], tmp_path / "r.json")
    [entry] = json.loads((tmp_path / "r.json").read_text())

    assert entry["diagnosis"]["class"] == "step-bound"
    assert entry["diagnosis"]["costs"]["step"].keys() == {"wall_s", "cpu_s"}
    assert entry["limit"].keys() >= {"examples_per_s", "ci", "binding", "terms"}
    assert entry["speedup"].keys() >= {"ratio", "ci", "verdict", "baseline"}
    keys = {"config", "examples_per_s", "ci", "host_peak_mib", "device_peak_mib"}
    assert entry["recommended"].keys() >= keys
    for candidate in entry["confirmation"]:
        assert candidate.keys() >= {"config", "rounds", "examples_per_s", "ci"}
    assert entry["baselines"]["autotune"]["config"]["prefetch_buffer"] == "auto"


def test_the_report_can_be_written_again(tuned: Tuned, tmp_path: Path) -> None:
    done = prefetch_tune(tuned.folder, "report", "heavy", "--out", str(tmp_path))

    assert done.returncode == 0, done.stderr
    [parent] = tuned.runs("study")
    for name in ("report.md", "snippet.py"):
        logged = tuned.client.download_artifacts(parent.info.run_id, name, str(tmp_path / "logged"))
        assert (tmp_path / name).read_text() == Path(logged).read_text()
    assert (tmp_path / "report.html").stat().st_size > 1_000_000


def test_more_rounds_join_those_that_there_are(tuned: Tuned, runner: TrialRunner) -> None:
    again = Tuning(tuned.store, runner, ConsoleProgress(Console(quiet=True)))
    again.confirm("heavy", 1, time.monotonic())

    [record] = again.records
    before = {c.candidate: c.rounds for c in tuned.record.result.confirmation}
    after = {c.candidate: c.rounds for c in record.result.confirmation}
    assert after["autotune"] == before["autotune"] + 1
    # A beaten candidate gets no further round.
    assert all(after[name] - before[name] in (0, 1) for name in before)
    assert len(tuned.runs("study")) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["confirm", "nobody"], "no study named 'nobody' in sqlite:///"),
        (["report", "nobody"], "no study named 'nobody' in sqlite:///"),
        (["report", "heavy", "--out", "mlruns/optuna.db"], "cannot write the report into"),
        (["confirm", "heavy", "--rounds", "3"], "--rounds: must be from 9 to 10000, not 3"),
    ],
)
def test_misuse_is_one_line(tuned: Tuned, arguments: list[str], message: str) -> None:
    done = prefetch_tune(tuned.folder, *arguments)

    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_if_mlflow_refuses_the_report_the_results_are_there(
    tuned: Tuned, runner: TrialRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy before MLflow may refuse what is larger than a megabyte.

    The last test, because it adds a round to the study.
    """

    def refused(*_: object, **__: object) -> str:
        raise StoreError("cannot use MLflow at http://mlflow: 413 Request Entity Too Large")

    monkeypatch.setattr(Tracker, "_end", refused)
    tuning = Tuning(tuned.store, runner, ConsoleProgress(Console(quiet=True)))
    tuning.confirm("heavy", 1, time.monotonic())

    [record] = tuning.records
    assert record.result.recommended is not None
    assert any(
        "413" in problem and "prefetch-tune report heavy" in problem for problem in tuning.problems
    )
