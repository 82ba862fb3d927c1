"""One study of one pipeline: the state that its search and its rounds share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property

import optuna
from optuna.trial import TrialState

from prefetch_tuning.experiments.search.axes import Offer, offer
from prefetch_tuning.experiments.settings import StudySettings
from prefetch_tuning.experiments.storage.attributes import StudyAttributes
from prefetch_tuning.experiments.storage.results import Offered
from prefetch_tuning.experiments.storage.runs.reader import KEPT
from prefetch_tuning.experiments.storage.runs.tracking import Tracker
from prefetch_tuning.experiments.storage.schema import Kind, Tag, TrialAttr
from prefetch_tuning.experiments.study.work import Hosts, ThisHost
from prefetch_tuning.objectives.measurement import Measurement, TrialFailure
from prefetch_tuning.objectives.pipeline_info import PipelineInfo
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.spec import StopRule, TrialSpec
from prefetch_tuning.pipelines.config import PipelineConfig


class PipelineStudy:
    """A pipeline, its Optuna study, its parent run in MLflow, and the tools to measure and log.

    Attributes:
        optuna_study: the Optuna study with the trials.
        kept: the study's attributes in Optuna's storage.
        run_id: run id of the parent run in MLflow.
        measured_s: seconds of measuring in this process, without those of an earlier run.
        generator_cluster: address of a Ray cluster that runs the generator's processes. It isn't
            stored: a store must not decide what a later command connects to.
    """

    def __init__(
        self,
        study: optuna.Study,
        info: PipelineInfo,
        settings: StudySettings,
        runner: TrialRunner,
        tracker: Tracker,
        tags: Mapping[str, str],
    ) -> None:
        self.optuna_study = study
        self.kept = StudyAttributes(study)
        self.info = info
        self.settings = settings
        self.tags = dict(tags)
        self.run_id = ""
        self.measured_s = 0.0
        self.runner = runner
        self.generator_cluster: str | None = None
        self._hosts: Hosts | None = None
        self.tracker = tracker

    @property
    def hosts(self) -> Hosts:
        """What carries trials and rounds out; by default this host, one after another."""
        return self._hosts or ThisHost(self.runner)

    @hosts.setter
    def hosts(self, hosts: Hosts) -> None:
        self._hosts = hosts

    @cached_property
    def offer(self) -> Offer:
        """The axes to search. Read it only after the diagnosis, which decides what is offered."""
        found = offer(self.info, self.settings, self.kept.diagnosis, self.kept.cores)
        self.kept.offered = Offered(searched=found.space.described, left_out=found.left_out)
        return found

    def begin(self) -> None:
        """Creates the parent run, or resumes an earlier run's and clears that run's leftovers."""
        host = self.tags.get("host", "unknown")
        self.kept.begin(self.info, self.settings, host, self.hosts.cores)
        if self.runner.server_mib is not None:
            self.kept.server_mib = self.runner.server_mib
        earlier = self.kept.run_id
        current = None if earlier is None else self.tracker.resume_study(earlier)
        if current is not None:
            self.run_id = self.kept.run_id = current
            self._clear_leftovers()
            return
        self.run_id = self.tracker.start_study(self.info.name, self.settings.name, self.tags)
        self.kept.run_id = self.run_id

    def spec(self, config: PipelineConfig, rival: float | None = None) -> TrialSpec:
        """The spec that measures a configuration; pruned against `rival`, a rate, if given."""
        stop = self.stop_rule(config.batch_size)
        longer_s = stop.longest_s - self.settings.stop.longest_s
        return TrialSpec(
            pipeline=self.info.target,
            config=config,
            seed=self.settings.seed,
            device=self.settings.device,
            stop=stop,
            best_examples_per_s=rival,
            generator_cluster=self.generator_cluster,
            deadline_s=self.settings.trial_timeout_s + longer_s,
        )

    @property
    def reference(self) -> TrialSpec:
        """The spec of the plain chain with a short prefetch, at the largest batch size.

        It is measured before the first trial, and on a cluster's nodes beside the trials.
        """
        size = max(self.offer.space.batch_sizes)
        return self.spec(PipelineConfig(batch_size=size, prefetch_buffer=4, map_parallelism=2))

    def stop_rule(self, batch_size: int) -> StopRule:
        """How long a trial lasts: longer than set if the generator's pauses are far apart."""
        return self.kept.stop_rule(batch_size)

    def utilisation(
        self, config: PipelineConfig, result: Measurement | TrialFailure
    ) -> dict[str, float]:
        """How busy the step was kept and at what cost; empty if its time is unknown."""
        step_rate = self.kept.step_rate(config.batch_size)
        if isinstance(result, TrialFailure) or math.isnan(step_rate):
            return {}
        cpu_s = result.cpu_seconds_per_1k_examples / 1_000.0
        return {
            "accelerator/utilisation": result.examples_per_s / step_rate,
            "accelerator/cores": cpu_s * step_rate,
        }

    def _clear_leftovers(self) -> None:
        """Ends what a killed run of this study left unfinished in Optuna and in MLflow.

        Optuna may still list a trial as running, though it will never get a result. MLflow may have
        a run that Optuna doesn't know. It is marked, so that each trial and round counts once.
        """
        for trial in self.optuna_study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self.optuna_study._storage.set_trial_user_attr(
                trial._trial_id, TrialAttr.STATE, "interrupted"
            )
            self.optuna_study.tell(trial.number, state=TrialState.FAIL)
        known = self.kept.known_run_ids
        for run in self.tracker.children(self.run_id):
            # Optuna never learns of a failed candidate's run or of a rerun: neither is a leftover.
            ended = run.status == "FAILED" or run.tags.get(Tag.KIND) == Kind.RERUN
            is_known = {run.run_id, KEPT + run.tags.get(Tag.OWN_ID, "")} & known
            if not is_known and not ended:
                self.tracker.mark_interrupted(run.run_id)
