"""A tuning run: every pipeline that was asked for, one after the other, from check to summary."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from optuna.exceptions import StorageInternalError
from rich.console import Console
from sqlalchemy.exc import SQLAlchemyError

from experiments.environment import environment_tags
from experiments.errors import StoreError, UsageError, first_line
from experiments.progress import StudyProgress
from experiments.results import MeasuredConfig, StudyResult, write_json
from experiments.space import SearchSpace
from experiments.store import Store
from experiments.study import PipelineStudy, StudySettings, all_failed, open_study
from experiments.summary import print_results
from experiments.tracking import Tracker, ui_command
from objectives.isolation import TrialRunner
from objectives.measurement import PipelineInfo, TrialFailure
from objectives.spec import Device, StopRule
from pipelines import catalog
from pipelines.config import PipelineConfig
from pipelines.source import PipelineError

PROJECT = Path(__file__).resolve().parent.parent
EXIT_OK, EXIT_NO_RESULT, EXIT_INTERRUPTED = 0, 1, 130
DEFAULT_TRIALS = 24
# Keeps the default run of the three built-in pipelines under six minutes on two cores.
DEFAULT_TIME_BUDGET_S = 95.0


@dataclass(frozen=True)
class TuneRequest:
    """What was asked for; see `StudySettings` for the fields of the same name.

    Attributes:
        pipelines: names or `module:attribute`; empty for all built-in ones.
        trials: None for the default number within the default time.
        study: base name; None makes one from the pipeline and the time.
    """

    pipelines: Sequence[str]
    trials: int | None = None
    time_budget_s: float | None = None
    batch_size: int | None = None
    memory_limit_mib: float | None = None
    device: Device = "auto"
    seed: int = 0
    study: str | None = None
    trial_timeout_s: float = 90.0
    stop: StopRule = field(default_factory=StopRule)


class Tuning:
    """Runs a request. Results that are there when it is interrupted stay in `results`.

    Attributes:
        results: one entry a pipeline that was tuned, in order.
        problems: one line a pipeline that gave no result.
        selectors: what names each pipeline on the command line, by its own name.
    """

    def __init__(
        self, request: TuneRequest, store: Store, runner: TrialRunner, console: Console
    ) -> None:
        self._request = request
        self._store = store
        self._runner = runner
        self._console = console
        self._stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        self.selectors: dict[str, str] = {}
        self.results: list[StudyResult] = []
        self.problems: list[str] = []

    def run(self, began: float) -> None:
        """Checks every pipeline and study before the first is measured, then tunes them in order.

        `began` is when the person started to wait (`time.monotonic`): the first pipeline's
        `wall_s` counts from there.

        Raises:
            PipelineError, StoreError, StudyError: something that was asked for cannot be done.
            KeyboardInterrupt: passed on once the interrupted study is in order.
        """
        targets = [catalog.resolve(name) for name in self._request.pipelines or catalog.names()]
        infos = [self._inspect(target) for target in dict.fromkeys(targets)]
        built_in = {catalog.resolve(name): name for name in catalog.names()}
        self.selectors = {info.name: built_in.get(info.target, info.target) for info in infos}
        names = [info.name for info in infos]
        for name in names:
            if names.count(name) > 1:
                raise PipelineError(f"two pipelines are named {name!r}; their studies would mix")
        spaces = [SearchSpace.for_pipeline(info, self._request.batch_size) for info in infos]
        if not self._runner.forks:
            self._console.print(
                "CUDA was in use before the first trial, so each trial starts a new "
                "interpreter: slower, same numbers."
            )
        self._store.create()
        tracker = Tracker(self._store)
        tags = environment_tags(Path.cwd())
        studies = [
            self._open(info, space, tracker, tags, several=len(infos) > 1)
            for info, space in zip(infos, spaces, strict=True)
        ]
        for study in studies:
            self._tune(study, began)
            began = time.monotonic()

    def _open(
        self,
        info: PipelineInfo,
        space: SearchSpace,
        tracker: Tracker,
        tags: dict[str, str],
        *,
        several: bool,
    ) -> PipelineStudy:
        settings = self._settings(info, several=several)
        optuna_study = open_study(settings, info, space, self._store)
        tags = tags | _study_tags(info, settings)
        return PipelineStudy(optuna_study, info, space, settings, self._runner, tracker, tags)

    def _inspect(self, target: str) -> PipelineInfo:
        info = self._runner.inspect(target, self._request.seed, self._request.device)
        if isinstance(info, TrialFailure):
            raise PipelineError(info.detail)
        return info

    def _settings(self, info: PipelineInfo, *, several: bool) -> StudySettings:
        request = self._request
        name = request.study or f"{info.name}-{self._stamp}"
        if request.study and several:
            name = f"{request.study}-{info.name}"
        budget_s = request.time_budget_s
        if budget_s is None and request.trials is None:
            budget_s = DEFAULT_TIME_BUDGET_S
        return StudySettings(
            name=name,
            trials=request.trials or DEFAULT_TRIALS,
            time_budget_s=budget_s,
            memory_limit_mib=request.memory_limit_mib,
            device=request.device,
            seed=request.seed,
            trial_timeout_s=request.trial_timeout_s,
            stop=request.stop,
        )

    def _tune(self, study: PipelineStudy, began: float) -> None:
        """Searches, measures the baselines and closes the parent run, also after an interrupt."""
        study.begin()
        baselines: dict[str, MeasuredConfig] = {}
        interrupted = True
        try:
            self._search(study)
            baselines = self._baselines(study)
            interrupted = False
        finally:
            result = StudyResult(
                pipeline=study.info.name,
                device=study.info.device,
                study=study.settings.name,
                mlflow_run_id=study.run_id,
                trials=study.counts,
                baselines=baselines,
                best=study.best,
                measured_s=study.measured_s,
                wall_s=time.monotonic() - began,
            )
            self.results.append(result)
            study.finish(result, interrupted=interrupted)

    def _search(self, study: PipelineStudy) -> None:
        """Runs trials until there are enough or the time is spent."""
        settings, begin = study.settings, time.monotonic()
        progress = StudyProgress(
            self._console, study.info.name, len(study.finished), settings.trials
        )
        with progress.shown():
            while len(study.finished) < settings.trials:
                left_s = None
                if settings.time_budget_s is not None:
                    left_s = settings.time_budget_s - (time.monotonic() - begin)
                    if left_s <= 0:
                        break
                outcome = study.run_trial()
                progress.advance(outcome, study.best, left_s)
                reason = all_failed(study.finished)
                if reason is not None:
                    self.problems.append(f"{study.info.name}: every trial failed, {reason}")
                    break
            progress.note("measuring the baselines" if study.best else "no trial gave a result")

    def _baselines(self, study: PipelineStudy) -> dict[str, MeasuredConfig]:
        """AUTOTUNE and no prefetch at the winner's batch size: only those compare with it."""
        best = study.best
        if best is None:
            return {}
        batch_size = best.config.batch_size
        configs = {
            "autotune": PipelineConfig.autotune(batch_size),
            "no_prefetch": PipelineConfig.no_prefetch(batch_size),
        }
        measured: dict[str, MeasuredConfig] = {}
        for name, config in configs.items():
            result = study.run_baseline(name, config)
            if isinstance(result, TrialFailure):
                self.problems.append(
                    f"{study.info.name}: baseline {name} failed, {result.kind}: {result.detail}"
                )
            else:
                measured[name] = result
        return measured


def run_and_report(
    request: TuneRequest, store: Store, runner: TrialRunner, json_file: Path | None, began: float
) -> int:
    """Runs a request and prints what it found; returns the exit code.

    0: every pipeline has a result; 1: one has none; 130: interrupted, what was measured is kept.
    """
    notes = Console(stderr=True, highlight=False, soft_wrap=True)
    tuning = Tuning(request, store, runner, notes)
    interrupted = False
    try:
        tuning.run(began)
    except KeyboardInterrupt:
        interrupted = True
    except (SQLAlchemyError, StorageInternalError) as error:
        reason = first_line(error)
        raise StoreError(f"the Optuna storage {store.storage_url} failed: {reason}") from error
    finally:
        # Also before an error goes on: what was measured until then is not its fault.
        _report(tuning, json_file, notes)
    if interrupted:
        _print_resume(tuning, request, notes)
        return EXIT_INTERRUPTED
    _print_where(store, notes)
    return EXIT_OK if all(result.best for result in tuning.results) else EXIT_NO_RESULT


def _report(tuning: Tuning, json_file: Path | None, notes: Console) -> None:
    if tuning.results:
        print_results(Console(), tuning.results)
        if json_file is not None:
            try:
                write_json(tuning.results, json_file)
            except OSError as error:
                raise UsageError(f"cannot write --json {json_file}: {error.strerror}") from error
    for problem in tuning.problems:
        notes.print(f"warning: {problem}", style="yellow", markup=False)


def _print_resume(tuning: Tuning, request: TuneRequest, notes: Console) -> None:
    """The command that goes on with the study that was interrupted."""
    notes.print("interrupted; what was measured is kept.")
    if not tuning.results:
        return
    result = tuning.results[-1]
    selector = tuning.selectors[result.pipeline]
    trials = f" --trials {request.trials}" if request.trials else ""
    notes.print(
        f"To go on with it, give the same options and its name: prefetch-tune tune {selector}"
        f"{trials} --study {result.study}"
    )


def _print_where(store: Store, notes: Console) -> None:
    """How to open what was written."""
    if store.artifacts is None:
        notes.print(f"Every trial is in MLflow at {store.tracking_uri}")
        return
    shortcut = "make ui, or\n  " if Path.cwd() == PROJECT else "\n  "
    notes.print(f"Every trial is in MLflow: {shortcut}{ui_command(store.tracking_uri)}")


def _study_tags(info: PipelineInfo, settings: StudySettings) -> dict[str, str]:
    return {
        "pipeline": info.name,
        "pipeline.source_digest": info.source_digest,
        "study": settings.name,
        "device": info.device,
        "seed": str(settings.seed),
    }
