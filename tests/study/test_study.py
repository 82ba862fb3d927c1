"""What becomes of a trial, with a fake runner and real Optuna."""

from __future__ import annotations

import io
import signal
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState, create_trial
from rich.console import Console

from prefetch_tuning.experiments.commands.progress import ConsoleProgress
from prefetch_tuning.experiments.errors import StudyError
from prefetch_tuning.experiments.search.diagnosis import diagnose
from prefetch_tuning.experiments.search.first_trials import first_trials
from prefetch_tuning.experiments.search.pauses import Pauses
from prefetch_tuning.experiments.search.prediction import predict
from prefetch_tuning.experiments.settings import Options, StudySettings
from prefetch_tuning.experiments.storage.attributes import StudyAttributes
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.results import TrialCounts
from prefetch_tuning.experiments.storage.schema import TrialAttr
from prefetch_tuning.experiments.storage.studies import load_study, open_study
from prefetch_tuning.experiments.storage.trial_rows import all_failed
from prefetch_tuning.experiments.study import trials as trials_room
from prefetch_tuning.experiments.study.diagnose import Listener, diagnose_study, first_s
from prefetch_tuning.experiments.study.one_study import OneStudy
from prefetch_tuning.experiments.study.pipeline_study import PipelineStudy
from prefetch_tuning.experiments.study.round_runs import RoundRuns
from prefetch_tuning.experiments.study.search import Search
from prefetch_tuning.experiments.study.work import carry_out
from prefetch_tuning.experiments.verdict.measurements import MeasuredRound
from prefetch_tuning.objectives.arrivals import Arrivals, Pause
from prefetch_tuning.objectives.measurement import Measurement, TrialFailure
from prefetch_tuning.objectives.pipeline_info import PipelineInfo
from prefetch_tuning.objectives.spec import StopRule
from prefetch_tuning.objectives.throughput import Throughput
from prefetch_tuning.pipelines.config import STRUCTURE, PipelineConfig
from prefetch_tuning.pipelines.cores import usable_cores
from tests.support.fakes import COSTS, INFO, FakeRunner, FakeTracker, cost, measurement

STEP_BOUND = COSTS.model_copy(update={"step": cost(400.0, cpu_us=10.0)})
FAILURE = TrialFailure(kind="generator", detail="KeyError: 'lost'", output="Traceback ...")
SETTINGS = StudySettings(
    name="s", trials=10, memory_limit_mib=100.0, device="cpu", seed=3, trial_timeout_s=9.0
)


class Bench:
    """A study on the database in a folder; a second one on the same folder resumes it."""

    def __init__(self, folder: Path, *answers: Measurement | TrialFailure | BaseException) -> None:
        self.store = Store.choose(folder, None, None)
        self.store.create()
        self.runner = FakeRunner(list(answers))
        self.tracker = FakeTracker()
        self.study = self.open()

    def open(self, settings: StudySettings = SETTINGS, info: PipelineInfo = INFO) -> PipelineStudy:
        optuna_study = open_study(settings, info, self.store)
        study = PipelineStudy(optuna_study, info, settings, self.runner, self.tracker, tags={})
        study.begin()
        return study


def test_every_end_of_a_trial_has_its_state_on_both_sides(tmp_path: Path) -> None:
    bench = Bench(
        tmp_path,
        measurement(1_000.0),
        measurement(9_000.0, peak_mib=100.5),
        measurement(500.0, stopped="pruned"),
        FAILURE,
    )

    states = [Search(bench.study).run_trial().state for _ in range(4)]

    assert states == ["complete", "infeasible", "pruned", "failed"]
    assert [state for _, state in bench.tracker.logged] == states
    assert [t.state for t in bench.study.optuna_study.trials] == [
        TrialState.COMPLETE,
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.FAIL,
    ]
    assert bench.study.kept.counts == TrialCounts(complete=1, infeasible=1, pruned=1, failed=1)
    constraints = [list(t.constraints.values()) for t in bench.study.optuna_study.trials[:3]]
    assert constraints == [[-50.0], [0.5], [-50.0]]


def test_the_best_is_the_fastest_within_the_memory_limit(tmp_path: Path) -> None:
    bench = Bench(tmp_path, measurement(1_000.0), measurement(9_000.0, peak_mib=101.0))
    Search(bench.study).run_trial()
    Search(bench.study).run_trial()

    best = bench.study.kept.best

    assert best is not None
    assert best.examples_per_s == 1_000.0
    assert best.config == bench.runner.specs[0].config


def test_a_trial_logs_how_busy_it_kept_the_step(tmp_path: Path) -> None:
    bench = Bench(tmp_path, measurement(10_000.0), FAILURE)
    bench.study.kept.diagnosis = diagnose(COSTS, 2.0)
    for _ in range(2):
        Search(bench.study).run_trial()

    size = bench.runner.specs[0].config.batch_size
    busy = 10_000.0 * COSTS.step_s[size] / size
    assert bench.tracker.more[0]["accelerator/utilisation"] == pytest.approx(busy)
    assert "accelerator/utilisation" not in bench.tracker.more[1]


def test_trials_last_from_one_pause_to_the_next_where_a_buffer_helps(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    pauses = Pauses(
        mean_s=1.0,
        apart_s=6.0,
        elements_apart=0.0,
        flowing_share=0.8,
        step_s=COSTS.step_s,
        replayed={8: {4: 90.0, 64: 100.0}, 4: {4: 100.0, 64: 100.0}},
    )
    bench.study.kept.diagnosis = diagnose(STEP_BOUND, 2.0, pauses)
    small, large = (
        bench.study.spec(PipelineConfig(batch_size=size, prefetch_buffer=2, map_parallelism=1))
        for size in (4, 8)
    )

    assert large.stop.max_s == pytest.approx(6.0)
    # A trial that takes longer gets longer before it is killed.
    longest_s, usual_s = 3.5 * 6.0 + 2 * 6.0, 15.0 + 2 * 1.0
    assert large.deadline_s == pytest.approx(SETTINGS.trial_timeout_s + longest_s - usual_s)
    assert (small.stop, small.deadline_s) == (StopRule(), SETTINGS.trial_timeout_s)
    # What was found is frozen with the study.
    assert bench.open().kept.diagnosis == bench.study.kept.diagnosis


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ({}, 6.0),
        ({"trials": 2}, 0.5),
        ({"trials": 100}, 6.0),
        ({"time_budget_s": 10.0}, 3.0),
        ({"trials": 2, "time_budget_s": 300.0}, 0.5),
    ],
)
def test_a_short_search_looks_for_pauses_for_a_short_time(
    options: dict[str, Any], seconds: float
) -> None:
    assert first_s(Options(**options)) == pytest.approx(seconds)


@pytest.mark.parametrize(("pauses", "asked"), [(0, [(6.0, 1)]), (3, [(6.0, 1), (30.0, 3)])])
def test_the_longer_recording_is_said_first_and_made_only_if_there_is_a_pause(
    pauses: int, asked: list[tuple[float, int]]
) -> None:
    found = [Pause(begin_s=5.0 * n, seconds=1.5, elements=500 * n) for n in range(1, pauses + 1)]
    runner = Listening(Arrivals(every=100, times_s=[1.0, 2.0], pauses=found, seconds=16.0))
    said: list[str] = []

    listener = Listener(runner, said.append)
    heard = listener.pauses_of("rows:rows", 0, 6.0, COSTS, [4, 6])

    assert runner.asked == asked
    assert (heard is None, said) == (
        (True, [])
        if not pauses
        else (False, ["the generator paused for 1.5 s; recording it for at most 30 s more"])
    )
    assert listener.measured_s == 16.0 * len(asked)
    # A batch size that the pipeline doesn't list is replayed, too.
    assert heard is None or heard.replayed.keys() == {4, 6}


class Listening(FakeRunner):
    """Gives the same recording each time, and keeps what was asked for."""

    def __init__(self, arrivals: Arrivals) -> None:
        super().__init__([])
        self.arrivals = arrivals
        self.asked: list[tuple[float, int]] = []

    def record_arrivals(
        self, pipeline: str, seed: int, most_s: float, most_pauses: int
    ) -> Arrivals | TrialFailure:
        self.asked.append((most_s, most_pauses))
        return self.arrivals


def test_the_spec_of_many_features_is_stored_whole(tmp_path: Path) -> None:
    """It is code, and a part of it would be a syntax error in the snippet."""
    spec = (
        "{" + ", ".join(f"'feature_{n}': tf.TensorSpec((), tf.float32)" for n in range(200)) + "}"
    )
    bench = Bench(tmp_path)
    study = bench.open(info=INFO.model_copy(update={"element_spec": spec}))

    assert StudyAttributes(study.optuna_study).info.element_spec == spec


def test_a_pruned_trial_keeps_what_it_measured(tmp_path: Path) -> None:
    bench = Bench(tmp_path, measurement(500.0, stopped="pruned"))
    Search(bench.study).run_trial()

    assert bench.study.optuna_study.trials[0].value == 500.0
    assert bench.study.kept.best is None


def test_a_trial_is_pruned_against_the_best_so_far(tmp_path: Path) -> None:
    bench = Bench(tmp_path, measurement(800.0), measurement(1_000.0), measurement(900.0))
    for _ in range(3):
        Search(bench.study).run_trial()

    assert [s.best_examples_per_s for s in bench.runner.specs] == [None, 800.0, 1_000.0]


def test_a_predicted_trial_that_was_cut_off_comes_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, KeyboardInterrupt(), *[measurement()] * 20)
    bench.study.kept.diagnosis = diagnose(COSTS, usable_cores())
    Search(bench.study).begin()
    with pytest.raises(KeyboardInterrupt):
        Search(bench.study).run_trial()
    cut_off = bench.runner.specs[0].config

    resumed = bench.open()
    Search(resumed).begin()
    assert bench.study.kept.cut_off == []  # it waits in the queue, so it isn't enqueued twice
    Search(resumed).begin()
    while any(t.state is TrialState.WAITING for t in resumed.optuna_study.trials):
        Search(resumed).run_trial()

    assert [spec.config for spec in bench.runner.specs].count(cut_off) == 2


def test_an_interrupt_costs_its_trial_and_nothing_else(tmp_path: Path) -> None:
    bench = Bench(tmp_path, measurement(), KeyboardInterrupt(), measurement())
    Search(bench.study).run_trial()
    with pytest.raises(KeyboardInterrupt):
        Search(bench.study).run_trial()
    Search(bench.study).run_trial()

    assert len(bench.study.kept.finished) == 2
    assert bench.study.kept.counts == TrialCounts(complete=2)
    assert len(bench.tracker.logged) == 2


def test_a_resumed_study_goes_on_where_it_was(tmp_path: Path) -> None:
    first = Bench(tmp_path, measurement(800.0), FAILURE)
    Search(first.study).run_trial()
    Search(first.study).run_trial()

    second = Bench(tmp_path, measurement(900.0))
    Search(second.study).run_trial()

    assert second.study.run_id == "parent"
    assert second.study.kept.counts == TrialCounts(complete=2, failed=1)
    assert second.runner.specs[0].best_examples_per_s == 800.0
    # A resumed study doesn't begin with the first suggestion again.
    assert second.runner.specs[0].config != first.runner.specs[0].config


def test_a_trial_that_was_running_when_the_study_was_killed_is_cleared(tmp_path: Path) -> None:
    first = Bench(tmp_path)
    first.study.optuna_study.ask()  # then the process is killed, before it tells a result

    second = Bench(tmp_path)

    assert [t.state for t in second.study.optuna_study.trials] == [TrialState.FAIL]
    assert second.study.kept.finished == []


@pytest.mark.parametrize(
    ("info", "settings", "message"),
    [
        ({"source_digest": "d" * 64}, {}, r"made with source \(SHA-256\) cccccccccccc"),
        ({"device": "gpu: H200"}, {}, "made with device cpu, now it is gpu: H200"),
        ({}, {"memory_limit_mib": None}, "made with memory_limit_mib 100.0, now it is null"),
    ],
)
def test_a_study_is_not_continued_with_something_else(
    tmp_path: Path, info: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    bench = Bench(tmp_path)
    changed = SETTINGS.model_copy(update=settings)

    with pytest.raises(StudyError, match=message):
        bench.open(changed, INFO.model_copy(update=info))


def test_a_candidate_is_never_pruned_and_says_what_it_is(tmp_path: Path) -> None:
    bench = Bench(tmp_path, measurement(5_000.0), measurement(700.0), FAILURE)
    Search(bench.study).run_trial()

    config = PipelineConfig.autotune(8)
    runs = RoundRuns(bench.study)
    measured = carry_out(runs.run_candidate("autotune", config, 1), bench.runner)
    failed = carry_out(runs.run_candidate("autotune", config, 2), bench.runner)

    assert not isinstance(measured, TrialFailure)
    assert (measured.examples_per_s, measured.mlflow_run_id) == (700.0, "run-2")
    assert failed == FAILURE
    assert bench.runner.specs[1].best_examples_per_s is None
    assert [spec.ceilings for spec in bench.runner.specs] == [False, True, False]
    title = "autotune: batch 8, prefetch auto, map auto"
    assert bench.tracker.logged[1:] == [
        (f"round 01 {title}", "complete"),
        (f"round 02 {title}", "failed"),
    ]


def test_predicted_configurations_come_first_and_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    diagnosis, cores = diagnose(COSTS, 2), usable_cores()
    bench.study.kept.diagnosis = diagnosis
    Search(bench.study).begin()
    expected = first_trials(diagnosis, bench.study.offer.space, cores, Throughput())
    bench.runner.answers = [measurement(predict(COSTS, c, cores)) for c in expected]
    bench.runner.answers.append(measurement())
    for _ in range(len(expected) + 1):
        Search(bench.study).run_trial()
    Search(bench.open()).begin()

    rows = StudyAttributes(bench.study.optuna_study).rows
    assert [row.config for row in rows if row.warm_start] == expected
    assert [row.warm_start for row in rows] == [True] * len(expected) + [False]
    predicted = predict(COSTS, expected[0], usable_cores())
    assert rows[0].predicted_examples_per_s == predicted
    logged = bench.tracker.more[0]
    assert logged["prediction/examples_per_s"] == predicted
    assert logged["prediction/error"] == 0.0
    assert not [t for t in bench.study.optuna_study.trials if t.state is TrialState.WAITING]


def test_a_round_is_kept_whole_and_belongs_to_its_candidates(tmp_path: Path) -> None:
    bench = Bench(tmp_path, measurement(900.0), measurement(800.0))
    record = bench.study.kept
    tuned = {"tuned-1": PipelineConfig(batch_size=8, prefetch_buffer=2, map_parallelism=1)}
    record.nominate(tuned)
    piece = RoundRuns(bench.study).run_candidate("tuned-1", tuned["tuned-1"], 0)
    measured = carry_out(piece, bench.runner)
    assert not isinstance(measured, TrialFailure)
    record.add_round(MeasuredRound(measured={"tuned-1": measured}, seconds=2.5))

    again = StudyAttributes(load_study("s", bench.store))
    assert again.candidates == tuned
    assert again.rounds == [{"tuned-1": measured}]
    assert again.rounds_s == 2.5
    again.nominate(tuned)
    assert len(again.rounds) == 1
    again.nominate({"autotune": PipelineConfig.autotune(8)})
    assert again.rounds == []
    assert measured.mlflow_run_id in again.known_run_ids


def test_a_study_that_is_not_there_is_named_beside_those_that_are(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    with pytest.raises(StudyError, match=r"no study named 't' in .* \(there are: s\)"):
        load_study("t", bench.store)


def test_ctrl_c_while_a_result_is_written_waits_until_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, measurement())
    log_trial = bench.tracker.log_trial

    def interrupted(*arguments: Any) -> str:
        signal.raise_signal(signal.SIGINT)
        return log_trial(*arguments)

    monkeypatch.setattr(bench.tracker, "log_trial", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Search(bench.study).run_trial()

    assert bench.study.kept.counts == TrialCounts(complete=1)
    assert len(bench.tracker.logged) == 1


def test_a_pipeline_that_only_fails_is_given_up_with_its_reason(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FAILURE, FAILURE, FAILURE)
    reasons = []
    for _ in range(3):
        Search(bench.study).run_trial()
        reasons.append(all_failed(bench.study.kept.finished))

    assert reasons == [None, None, "generator: KeyError: 'lost'"]


def test_a_plain_chain_is_pruned_against_plain_chains_only(tmp_path: Path) -> None:
    able = INFO.model_copy(update={"not_offered": {}, "axes": ["map_parallelism", *STRUCTURE]})
    bench = Bench(tmp_path, *(measurement(1_000.0 * (17 - number)) for number in range(16)))
    study = bench.open(SETTINGS.model_copy(update={"name": "able"}), able)

    for _ in range(16):
        Search(study).run_trial()

    plain = [spec for spec in bench.runner.specs if not spec.config.structure]
    structured = [spec for spec in bench.runner.specs if spec.config.structure]
    assert len(plain) >= 2
    # Rates fall from trial to trial, so each kind's first trial stays its best.
    first = bench.runner.specs.index(plain[0])
    assert [spec.best_examples_per_s for spec in plain] == [None] + [1_000.0 * (17 - first)] * (
        len(plain) - 1
    )
    assert {spec.best_examples_per_s for spec in structured[1:]} == {17_000.0}


@pytest.mark.parametrize(("time_budget_s", "trials"), [(None, 4), (20.0, 1)])
def test_the_default_time_holds_all_predicted_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, time_budget_s: float | None, trials: int
) -> None:
    """A time that the user set ends the search; the default one waits for predicted trials.

    Each of the four predicted trials takes 13 s here.
    """
    bench = Bench(tmp_path, *[measurement(1_000.0)] * 4)
    settings = SETTINGS.model_copy(update={"time_budget_s": time_budget_s, "trials": None})
    study = bench.open(settings)
    for size in (4, 8, 4, 8):
        study.optuna_study.enqueue_trial({"batch_size": size})
    clock = iter(13.0 * count for count in range(100))
    monkeypatch.setattr(trials_room, "time", SimpleNamespace(monotonic=lambda: next(clock)))

    searched(study)

    assert len(study.kept.finished) == trials


def searched(study: PipelineStudy) -> None:
    """Runs only the search."""
    OneStudy(study, ConsoleProgress(Console(file=io.StringIO())))._search(Search(study))


def test_a_resumed_search_does_not_get_its_time_again(tmp_path: Path) -> None:
    """Seen: resumed in its last rounds, a study searched anew and lost the rounds so far."""
    first = Bench(tmp_path, measurement(1_000.0))
    settings = SETTINGS.model_copy(update={"time_budget_s": 20.0, "trials": None})
    begun = datetime.now()
    for seconds in (9.0, 12.0):
        ended = create_trial(
            value=1_000.0,
            params={"batch_size": 8},
            distributions={"batch_size": CategoricalDistribution((4, 8))},
            user_attrs={
                TrialAttr.STATE: "complete",
                TrialAttr.CONFIG: PipelineConfig.no_prefetch(8).model_dump_json(),
            },
        )
        ended.datetime_start, ended.datetime_complete = begun, begun + timedelta(seconds=seconds)
        first.study.optuna_study.add_trial(ended)

    resumed = first.open(settings)
    searched(resumed)

    assert len(resumed.kept.finished) == 2
    assert first.runner.specs == []
    first.runner.answers = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        searched(first.open(settings.model_copy(update={"time_budget_s": 60.0})))


def test_a_search_that_began_without_a_diagnosis_goes_on_without_one(tmp_path: Path) -> None:
    """Its first trial may have been cut off: Optuna keeps the choices that it was given."""
    bench = Bench(tmp_path, KeyboardInterrupt())
    bench.study.info = INFO.model_copy(update={"has_stages": True})
    with pytest.raises(KeyboardInterrupt):
        Search(bench.study).run_trial()
    assert bench.study.kept.finished == []

    resumed = bench.open()
    resumed.info = bench.study.info
    shown = io.StringIO()
    assert diagnose_study(resumed, ConsoleProgress(Console(file=shown))) is None
    assert "no diagnosis, because the search began without one" in shown.getvalue()
