"""One Optuna study of one pipeline: ask -> run the trial -> log -> tell."""

from __future__ import annotations

import json
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import optuna
from optuna.trial import FrozenTrial, TrialState

from experiments.environment import host_fingerprint
from experiments.errors import StoreError, StudyError, first_line
from experiments.results import MeasuredConfig, StudyResult, TrialCounts
from experiments.space import SearchSpace
from experiments.store import Store
from experiments.tracking import Tracker
from objectives.isolation import TrialRunner
from objectives.measurement import Measurement, PipelineInfo, TrialFailure
from objectives.spec import Device, StopRule, TrialSpec
from pipelines.config import PipelineConfig

State = Literal["complete", "infeasible", "pruned", "failed", "interrupted"]

# Random trials before TPE takes over; fewer than Optuna's ten, since a search is a few dozen.
RANDOM_TRIALS = 8
CONSTRAINT = "host_peak_mib_over_limit"


@dataclass(frozen=True)
class StudySettings:
    """What a study was asked to do.

    Attributes:
        name: of the study; the same name continues it.
        trials: how many in total, those of an earlier run included.
        time_budget_s: search no longer than this; None for no limit.
        memory_limit_mib: peak host memory above which a configuration is infeasible.
        trial_timeout_s: wall time after which a trial is killed.
    """

    name: str
    trials: int
    time_budget_s: float | None
    memory_limit_mib: float | None
    device: Device
    seed: int
    trial_timeout_s: float
    stop: StopRule


@dataclass(frozen=True)
class Outcome:
    """One trial as it ended, for the progress display and for the study's record."""

    number: int
    config: PipelineConfig
    state: State
    measured: Measurement | None
    failure: TrialFailure | None


class PipelineStudy:
    """The search over one pipeline's configurations; holds the record, in Optuna's storage."""

    def __init__(
        self,
        study: optuna.Study,
        info: PipelineInfo,
        space: SearchSpace,
        settings: StudySettings,
        runner: TrialRunner,
        tracker: Tracker,
        tags: dict[str, str],
    ) -> None:
        self.study = study
        self.info = info
        self.space = space
        self.settings = settings
        self.tags = tags
        self.run_id = ""
        self.measured_s = 0.0  # in this process; an earlier run of the study is not counted
        self._runner = runner
        self._tracker = tracker

    def begin(self) -> None:
        """Makes the parent run, or takes up the one of an earlier run and clears its leftovers."""
        earlier = self.study.user_attrs.get("mlflow_run_id")
        if earlier is not None and self._tracker.resume_study(earlier):
            self.run_id = earlier
            self._clear_leftovers()
            return
        self.run_id = self._tracker.start_study(self.info.name, self.settings.name, self.tags)
        self.study.set_user_attr("mlflow_run_id", self.run_id)

    def run_trial(self) -> Outcome:
        """Asks for a configuration, measures it, logs the run, and tells Optuna how it ended.

        A trial that fails is recorded as failed and raises nothing. On Ctrl-C the trial is told
        as failed, without a run, and the interrupt goes on.
        """
        trial = self.study.ask()
        began = time.time()
        try:
            config = self.space.suggest(trial)
            spec = self._spec(config)
            result = self._runner.measure(spec)
        except BaseException:
            trial.set_user_attr("state", "interrupted")
            self.study.tell(trial, state=TrialState.FAIL)
            raise
        outcome = self._classify(trial.number, config, result)
        self.measured_s += outcome.measured.measured_s if outcome.measured else 0.0
        tags = {**self.tags, "kind": "trial", "trial_number": str(trial.number)}
        name = f"#{trial.number:02d} {config}"
        with uninterrupted():
            run_id = self._tracker.log_trial(
                self.run_id, name, spec, result, outcome.state, tags, began
            )
            self._tell(trial, outcome, run_id)
        return outcome

    def run_baseline(self, name: str, config: PipelineConfig) -> MeasuredConfig | TrialFailure:
        """Measures a baseline, once for each study and configuration, and logs it as a run."""
        key = f"baseline/{name}/{config.batch_size}"
        if key in self.study.user_attrs:
            return MeasuredConfig.model_validate(self.study.user_attrs[key])
        spec, began = self._spec(config, prune=False), time.time()
        result = self._runner.measure(spec)
        state = "failed" if isinstance(result, TrialFailure) else "complete"
        tags = {**self.tags, "kind": "baseline", "baseline": name}
        title = f"baseline {name}, batch {config.batch_size}"
        with uninterrupted():
            run_id = self._tracker.log_trial(self.run_id, title, spec, result, state, tags, began)
            if isinstance(result, TrialFailure):
                return result
            measured = MeasuredConfig.of(config, result, run_id)
            self.study.set_user_attr(key, measured.model_dump(mode="json"))
        self.measured_s += result.measured_s
        return measured

    def finish(self, result: StudyResult, *, interrupted: bool) -> None:
        """Writes the summary to the parent run and ends it."""
        space, best = self.space, result.best
        params: dict[str, object] = {
            "pipeline": self.info.target,
            "device": self.settings.device,
            "seed": self.settings.seed,
            "space.batch_sizes": list(space.batch_sizes),
            "space.max_prefetch": space.max_prefetch,
            "space.max_map_parallelism": space.max_map_parallelism,
        }
        metrics = {f"trials/{key}": float(n) for key, n in result.trials.model_dump().items()}
        metrics |= {"study/measured_s": result.measured_s, "study/wall_s": result.wall_s}
        tags = {"state": "interrupted" if interrupted else "complete"}
        if best is not None:
            metrics["throughput/examples_per_s"] = best.examples_per_s
            metrics["throughput/ci_low"] = best.ci.low
            metrics["throughput/ci_high"] = best.ci.high
            metrics["memory/host_peak_mib"] = best.host_peak_mib
            tags["best.config"] = str(best.config)
            tags["best.run_id"] = best.mlflow_run_id
        self._tracker.finish_study(
            self.run_id, interrupted=interrupted, params=params, metrics=metrics, tags=tags
        )

    @property
    def finished(self) -> list[FrozenTrial]:
        """Trials that ended on their own; an interrupted one counts for nothing."""
        trials = self.study.get_trials(deepcopy=False)
        return [t for t in trials if t.state.is_finished() and _state(t) != "interrupted"]

    @property
    def best(self) -> MeasuredConfig | None:
        """The fastest complete trial within the memory limit; None before the first."""
        complete = [t for t in self.finished if _state(t) == "complete"]
        if not complete:
            return None
        fastest = max(complete, key=lambda t: t.value or 0.0)
        return MeasuredConfig.model_validate(fastest.user_attrs["measured"])

    @property
    def counts(self) -> TrialCounts:
        """How the trials ended."""
        states = [_state(t) for t in self.finished]
        return TrialCounts(**{state: states.count(state) for state in TrialCounts.model_fields})

    def _spec(self, config: PipelineConfig, *, prune: bool = True) -> TrialSpec:
        best = self.best if prune else None
        return TrialSpec(
            pipeline=self.info.target,
            config=config,
            seed=self.settings.seed,
            device=self.settings.device,
            stop=self.settings.stop,
            best_examples_per_s=best.examples_per_s if best else None,
            deadline_s=self.settings.trial_timeout_s,
        )

    def _classify(
        self, number: int, config: PipelineConfig, result: Measurement | TrialFailure
    ) -> Outcome:
        """The one place that decides a trial's state."""
        limit = self.settings.memory_limit_mib
        if isinstance(result, TrialFailure):
            return Outcome(number, config, "failed", None, result)
        state: State = "complete"
        if result.stopped == "pruned":
            state = "pruned"
        elif limit is not None and result.host_peak_mib > limit:
            state = "infeasible"
        return Outcome(number, config, state, result, None)

    def _tell(self, trial: optuna.Trial, outcome: Outcome, run_id: str) -> None:
        trial.set_user_attr("state", outcome.state)
        trial.set_user_attr("mlflow_run_id", run_id)
        measured = outcome.measured
        if measured is None:
            trial.set_user_attr("failure", outcome.failure and outcome.failure.model_dump())
            self.study.tell(trial, state=TrialState.FAIL)
            return
        summary = MeasuredConfig.of(outcome.config, measured, run_id)
        trial.set_user_attr("measured", summary.model_dump(mode="json"))
        limit = self.settings.memory_limit_mib
        if limit is not None:
            trial.set_constraint(CONSTRAINT, measured.host_peak_mib - limit)
        if outcome.state == "pruned":
            # Optuna takes the last reported value as that of a pruned trial.
            trial.report(measured.examples_per_s, step=len(measured.windows))
            self.study.tell(trial, state=TrialState.PRUNED)
            return
        self.study.tell(trial, measured.examples_per_s)

    def _clear_leftovers(self) -> None:
        """Ends what a killed run of this study left half done, on both sides.

        A trial that Optuna still holds as running gets no result any more. A run that MLflow has
        and Optuna does not know is marked, so that each trial and baseline counts once.
        """
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self.study._storage.set_trial_user_attr(trial._trial_id, "state", "interrupted")
            self.study.tell(trial.number, state=TrialState.FAIL)
        known = {t.user_attrs.get("mlflow_run_id") for t in self.study.get_trials(deepcopy=False)}
        for key, value in self.study.user_attrs.items():
            if key.startswith("baseline/"):
                known.add(value["mlflow_run_id"])
        for run in self._tracker.children(self.run_id):
            # A baseline that failed is known to MLflow alone; it will be tried again.
            ended = run.info.status == "FAILED"
            if run.info.run_id not in known and not ended:
                self._tracker.mark_interrupted(run.info.run_id)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Holds Ctrl-C back until the block is done: what was measured is written whole."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals, and only it gets Ctrl-C
        return
    pressed = False

    def remember(*_: object) -> None:
        nonlocal pressed
        pressed = True

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if pressed:
            raise KeyboardInterrupt


def open_study(
    settings: StudySettings, info: PipelineInfo, space: SearchSpace, store: Store
) -> optuna.Study:
    """Creates the Optuna study, or loads it and checks that it can be continued.

    Raises:
        StoreError: the storage cannot be opened.
        StudyError: the study of that name measured something else.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    try:
        with store.first_connection():
            storage = optuna.storages.RDBStorage(store.storage_url)
        study = optuna.create_study(
            study_name=settings.name, storage=storage, direction="maximize", load_if_exists=True
        )
    except Exception as error:
        reason = first_line(error)
        raise StoreError(f"cannot use the Optuna storage {store.storage_url}: {reason}") from error
    # A resumed search must not repeat the random trials that it began with.
    study.sampler = optuna.samplers.TPESampler(
        seed=settings.seed + len(study.get_trials(deepcopy=False)), n_startup_trials=RANDOM_TRIALS
    )
    identity = {
        "pipeline": info.target,
        "source_digest": info.source_digest,
        "device": info.device,
        "host.fingerprint": host_fingerprint(),
        "batch_sizes": list(space.batch_sizes),
        "seed": settings.seed,
        "memory_limit_mib": settings.memory_limit_mib,
    }
    for key, value in identity.items():
        if key not in study.user_attrs:
            study.set_user_attr(key, value)
        elif study.user_attrs[key] != value:
            raise StudyError(
                f"study {settings.name!r} was made with {key} {_short(study.user_attrs[key])}, now "
                f"it is {_short(value)}; its trials would not compare: give --study a new name"
            )
    return study


def all_failed(finished: Sequence[FrozenTrial], patience: int = 3) -> str | None:
    """The first failure in one line when the first `patience` trials all failed, else None."""
    if len(finished) < patience or any(t.state is not TrialState.FAIL for t in finished):
        return None
    failure = finished[0].user_attrs.get("failure") or {}
    return f"{failure.get('kind')}: {failure.get('detail')}"


def _state(trial: FrozenTrial) -> str:
    return str(trial.user_attrs.get("state", "interrupted"))


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else text[:12] + "..."
