"""A tuning run: every requested pipeline, one after another, from inspection to report."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Protocol

import optuna

from prefetch_tuning.experiments.errors import StudyError, UsageError
from prefetch_tuning.experiments.host.environment import environment_tags
from prefetch_tuning.experiments.report.publish import close_study
from prefetch_tuning.experiments.search.axes import is_bound
from prefetch_tuning.experiments.settings import Options, StudySettings, TuneRequest
from prefetch_tuning.experiments.storage.attributes import StudyAttributes
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.results import MeasuredConfig, StudyRecord
from prefetch_tuning.experiments.storage.runs.spool import SpoolingTracker, sync_command
from prefetch_tuning.experiments.storage.schema import Tag
from prefetch_tuning.experiments.storage.studies import (
    check_identity,
    load_study,
    open_study,
    run_alone,
)
from prefetch_tuning.experiments.study.candidates import candidates_of, usable
from prefetch_tuning.experiments.study.diagnose import diagnose_study
from prefetch_tuning.experiments.study.pipeline_study import PipelineStudy
from prefetch_tuning.experiments.study.progress import Progress
from prefetch_tuning.experiments.study.rounds import Confirmer
from prefetch_tuning.experiments.study.search import Search
from prefetch_tuning.experiments.study.trials import Trials
from prefetch_tuning.experiments.study.work import Hosts
from prefetch_tuning.objectives.measurement import PipelineInfo
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.spec import StopRule
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.source import PipelineError

# Most confirmations in a row, if the best candidate keeps reading other data.
MOST_NOMINATIONS = 4
# If no change of structure helps, the configurations hardly differ in rate.
SHORT_TRIALS = 6
# To estimate how long a study takes: candidates in a round beside AUTOTUNE, and seconds to start a
# trial.
USUAL_CANDIDATES, START_S = 4, 2.0
# It is said how long scripts take to their fit if that is longer.
SAID_REACHING_S = 60.0


class Cluster(Protocol):
    """The nodes of a cluster; `experiments/cluster/` has the real one, which needs Ray."""

    @property
    def described(self) -> str:
        """The nodes in words."""

    def hosts(self, study: PipelineStudy) -> Hosts:
        """Carries out a study's trials and rounds."""


class Tuning:
    """Runs requests. If one is interrupted, `records` keeps what was measured.

    Attributes:
        records: one entry per pipeline, in order.
        problems: one line for each failure that didn't end the run.
        selectors: pipeline name to the argument that selects it on the command line.
    """

    def __init__(
        self,
        store: Store,
        runner: TrialRunner,
        progress: Progress,
        cluster: Cluster | None = None,
        generator_cluster: str | None = None,
    ) -> None:
        """Makes a run that measures on this host, unless there is a cluster.

        Args:
            store: where studies and runs are kept.
            runner: measures; with a cluster, its own.
            progress: shows the run.
            cluster: measures trials and rounds on its nodes.
            generator_cluster: address of a cluster that runs the generator's processes.
        """
        self._store = store
        self._cluster = cluster
        self._generator_cluster = generator_cluster
        self._runner = runner
        runner.say = progress.say
        self._progress = progress
        self.selectors: dict[str, str] = {}
        self.records: list[StudyRecord] = []
        self.problems: list[str] = []

    def tune(self, request: TuneRequest, began: float) -> None:
        """Checks every pipeline and study before the first is measured, then tunes them in order.

        `began` is when the user started to wait (`time.monotonic`). The first pipeline's `wall_s`
        counts from then.

        Raises:
            PipelineError, StoreError, StudyError: the request cannot be carried out.
            KeyboardInterrupt: raised again after the interrupted study was closed.
        """
        targets = [catalog.resolve(name) for name in request.pipelines or catalog.names()]
        infos = [self._inspect(target, request) for target in dict.fromkeys(targets)]
        names = [info.name for info in infos]
        for name in names:
            if names.count(name) > 1:
                raise PipelineError(
                    f"two pipelines are named {name!r}, so their studies would mix; rename one"
                )
        self._store.create()
        tracker = self._tracker()
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        studies = []
        for info in infos:
            settings = StudySettings.of(request, info, stamp, several=len(infos) > 1)
            check_splittable(info, self._generator_cluster)
            found = open_study(
                settings,
                info,
                self._store,
                self._host,
                generator_cluster=self._generator_cluster is not None,
            )
            studies.append(self._study(found, info, settings, tracker))
        with ExitStack() as alone:
            for study in studies:
                alone.enter_context(run_alone(study.settings.name, self._store))
            for study in studies:
                self._run(study, tracker, began, partial(self._tune, study))
                began = time.monotonic()

    def confirm(self, name: str, more: int, began: float) -> None:
        """Adds `more` rounds to the confirmation of a study.

        Raises:
            StudyError: there is no such study, it has nothing to confirm, or what it measured has
                changed since.
        """
        found = load_study(name, self._store)
        kept = StudyAttributes(found)
        if not kept.complete:
            raise StudyError(
                f"study {name!r} has no complete trial to confirm; resume it with prefetch-tune "
                f"tune PIPELINE --study {name}"
            )
        settings = kept.settings
        info = self._inspect(kept.info.target, settings)
        check_identity(
            found,
            settings,
            info,
            self._host,
            generator_cluster=self._generator_cluster is not None,
        )
        tracker = self._tracker()
        study = self._study(found, info, settings, tracker)
        with run_alone(name, self._store):
            self._run(study, tracker, began, partial(self._confirm, study, more))

    def _tracker(self) -> SpoolingTracker:
        """Opens MLflow; what it doesn't take later is kept beside the local results."""
        return SpoolingTracker(self._store, self._progress.say, Path.cwd())

    def _inspect(self, target: str, options: Options) -> PipelineInfo:
        info = self._runner.inspect(target, options.seed, options.device)
        self.selectors[info.name] = catalog.built_in_name(info.target) or info.target
        if not self._runner.forks and len(self.selectors) == 1:
            self._progress.say(
                "CUDA was in use before the first trial, so each trial starts a new "
                "interpreter: slower, but with the same results."
            )
        runs = _planned_runs(options)
        reaching_s = info.reach_s * runs
        if reaching_s > SAID_REACHING_S:
            self._progress.say(
                f"{info.name}: the script takes {info.reach_s:.1f} s to its fit, in each of about "
                f"{runs} processes: {reaching_s / 60:.0f} minutes of this study"
            )
        return info

    def _study(
        self,
        found: optuna.Study,
        info: PipelineInfo,
        settings: StudySettings,
        tracker: SpoolingTracker,
    ) -> PipelineStudy:
        tags = study_tags(info, settings.name, settings.seed)
        if self._cluster is not None:
            tags["host"] = self._cluster.described
        study = PipelineStudy(found, info, settings, self._runner, tracker, tags)
        study.generator_cluster = self._generator_cluster
        if self._cluster is not None:
            study.hosts = self._cluster.hosts(study)
        return study

    @property
    def _host(self) -> str | None:
        """What measures, if it isn't this host."""
        return None if self._cluster is None else self._cluster.described

    def _run(
        self, study: PipelineStudy, tracker: SpoolingTracker, began: float, work: Callable[[], None]
    ) -> None:
        """Does the work between opening and closing the parent run; an interrupt closes it too."""
        study.begin()
        interrupted = True
        try:
            work()
            interrupted = False
        finally:
            spent = (study.measured_s / study.hosts.count, time.monotonic() - began)
            closed = close_study(
                study.optuna_study, study.run_id, tracker, spent, interrupted=interrupted
            )
            self.records.append(closed)
            if len(tracker.spool):
                self.problems.append(
                    f"{study.info.name}: runs for MLflow wait in {tracker.spool.folder}. To "
                    f"deliver them, run in {Path.cwd()}: {sync_command(self._store.tracking_uri)}"
                )

    def _tune(self, study: PipelineStudy) -> None:
        problem = diagnose_study(study, self._progress)
        if problem is not None:
            self.problems.append(problem)
        check_step_known(study)
        search = Search(study)
        search.begin()
        if not study.kept.finished:
            search.read_once()
        self._search(study, search)
        if study.settings.rounds and study.kept.complete:
            self._confirm(study)

    def _search(self, study: PipelineStudy, search: Search) -> None:
        """Runs trials until their number is reached or the time is spent."""
        most, done = self._most_trials(study), len(study.kept.finished)
        title, budget_s = f"{study.info.name}: searching", study.settings.search_budget_s
        steps = self._progress.steps(title, "trial", done, most, budget_s)
        trials = Trials(study, search, steps, most)
        with steps.shown():
            study.hosts.carry_out(trials)
        self.problems.extend(trials.problems)

    def _most_trials(self, study: PipelineStudy) -> int:
        """The number of trials that ends the search; says if it or their length is unusual."""
        name, diagnosis = study.info.name, study.kept.diagnosis
        trials = study.settings.most_trials
        bound = diagnosis is not None and is_bound(diagnosis, study.settings)
        if bound and study.settings.trials is None:
            trials = SHORT_TRIALS
            self._progress.say(f"{name}: a short search of {trials} trials is enough")
        rules = [study.stop_rule(size) for size in study.offer.space.batch_sizes]
        longest = max(rules, key=lambda rule: rule.max_s)
        if longest != study.settings.stop and not study.kept.rounds:
            self._progress.say(
                f"{name}: trials last from one pause to the next, up to {longest.max_s:.0f} s, so "
                f"this study takes about {_minutes(longest, trials, study.settings.rounds):.0f} "
                "minutes"
            )
        return trials

    def _confirm(self, study: PipelineStudy, more: int | None = None) -> None:
        """Runs rounds over the best configurations, AUTOTUNE and the chain without prefetch."""
        kept = study.kept
        for left in reversed(range(MOST_NOMINATIONS)):
            # The study may have been made with --allow-reorder, and resumed without it.
            allowed = study.settings.allow_reorder
            complete = [m for m in kept.complete if allowed or not m.config.reorder]
            if not complete:
                return
            others = usable(complete, kept.excluded_with_best)
            gives_up = bool(others) and left > 0
            if not self._run_rounds(study, others or complete, more, gives_up=gives_up):
                return

    def _run_rounds(
        self,
        study: PipelineStudy,
        complete: Sequence[MeasuredConfig],
        more: int | None,
        *,
        gives_up: bool,
    ) -> bool:
        """Runs rounds over the best of these trials; whether others should be nominated."""
        kept, goal, info = study.kept, study.settings.goal, study.info
        found = candidates_of(complete, goal, kept.step_rate, info.own, written=info.written)
        kept.nominate(found)
        done = len(kept.rounds)
        total = max(study.settings.rounds, done) if more is None else done + more
        confirmer = Confirmer(study, gives_up=gives_up)
        steps = self._progress.steps(f"{study.info.name}: confirming", "round", done, total)
        try:
            with steps.shown():
                confirmer.run(steps, more)
        finally:
            self.problems.extend(confirmer.problems)
        return confirmer.gave_up


def check_splittable(info: PipelineInfo, cluster: str | None) -> None:
    """Raises UsageError if a cluster is to run a generator that can't be split."""
    if cluster is None:
        return
    if info.kind != "generator":
        raise UsageError(
            f"--generator-cluster is for a generator, and {info.name} builds its own chain"
        )
    if "generator_workers" not in info.axes:
        reason = info.not_offered.get("generator_workers", "it can't be split")
        raise UsageError(f"--generator-cluster: {info.name} can't use it: {reason}")


def check_step_known(study: PipelineStudy) -> None:
    """Raises StudyError if the objective has a target, but the step's time isn't known."""
    settings = study.settings
    if settings.goal.target is None or study.kept.diagnosis is not None or study.info.stand_in:
        return
    raise StudyError(
        f"{study.info.name}: --objective {settings.objective} needs the time of the training step, "
        "which was not measured; give --step-time or --accelerator, or leave out --objective"
    )


def _minutes(rule: StopRule, trials: int, rounds: int) -> float:
    """Rough length of a study whose trials have this rule, in minutes."""
    trial_s = START_S + rule.startup_s + rule.max_s
    round_s = USUAL_CANDIDATES * trial_s + START_S + rule.warmup_max_s + rule.max_s
    return (trials * trial_s + rounds * round_s) / 60.0


def _planned_runs(options: Options) -> int:
    """Roughly how many processes a study starts: trials, rounds, and what is read before."""
    return options.most_trials + options.rounds * (USUAL_CANDIDATES + 2) + 5


def study_tags(info: PipelineInfo, study: str, seed: int) -> dict[str, str]:
    """Tags that all runs of a study share: where and with what they were measured."""
    return environment_tags(Path.cwd()) | {
        Tag.PIPELINE: info.name,
        Tag.SOURCE_DIGEST: info.source_digest,
        Tag.STUDY: study,
        Tag.DEVICE: info.device,
        Tag.SEED: str(seed),
    }
