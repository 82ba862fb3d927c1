"""A tuning run: every requested pipeline, one after another, from inspection to report."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Protocol

import optuna

from prefetch_tuning.experiments.errors import StoreError, StudyError, UsageError
from prefetch_tuning.experiments.host.environment import environment_tags
from prefetch_tuning.experiments.report.publish import concluded, publish
from prefetch_tuning.experiments.settings import Options, StudySettings, TuneRequest
from prefetch_tuning.experiments.storage.attributes import StudyAttributes
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.results import StudyRecord
from prefetch_tuning.experiments.storage.runs.spool import SpoolingTracker, sync_command
from prefetch_tuning.experiments.storage.schema import Tag
from prefetch_tuning.experiments.storage.studies import (
    check_identity,
    load_study,
    open_study,
    run_alone,
)
from prefetch_tuning.experiments.study.one_study import USUAL_CANDIDATES, OneStudy
from prefetch_tuning.experiments.study.pipeline_study import PipelineStudy
from prefetch_tuning.experiments.study.progress import Progress
from prefetch_tuning.experiments.study.work import Hosts
from prefetch_tuning.objectives.pipeline_info import PipelineInfo
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.source import PipelineError

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
                self._run(study, tracker, began, OneStudy.tune)
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
            self._run(study, tracker, began, partial(OneStudy.confirm, more=more))

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
        self,
        study: PipelineStudy,
        tracker: SpoolingTracker,
        began: float,
        work: Callable[[OneStudy], None],
    ) -> None:
        """Does the work between opening and closing the parent run; an interrupt closes it too."""
        study.begin()
        interrupted, one = True, OneStudy(study, self._progress)
        try:
            work(one)
            interrupted = False
        finally:
            self.problems.extend(one.problems)
            spent = (study.measured_s / study.hosts.count, time.monotonic() - began)
            self.records.append(concluded(study.optuna_study, spent))
            self._publish(study, tracker, interrupted=interrupted)
            if len(tracker.spool):
                self.problems.append(
                    f"{study.info.name}: runs for MLflow wait in {tracker.spool.folder}. To "
                    f"deliver them, run in {Path.cwd()}: {sync_command(self._store.tracking_uri)}"
                )

    def _publish(
        self, study: PipelineStudy, tracker: SpoolingTracker, *, interrupted: bool
    ) -> None:
        """Logs the latest record. If MLflow refuses, the results are shown all the same."""
        found, name = self.records[-1], study.settings.name
        try:
            self.records[-1] = publish(
                found, study.optuna_study, study.run_id, tracker, interrupted=interrupted
            )
        except StoreError as error:
            self.problems.append(
                f"{study.info.name}: the report isn't in MLflow: {error}. To write it to a folder: "
                f"prefetch-tune report {name}"
            )


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
