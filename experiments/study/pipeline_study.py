"""One Optuna study of one pipeline: ask -> run the trial -> log -> tell."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import optuna
from optuna.trial import TrialState

from prefetch_tuning.experiments.host.interrupts import uninterrupted
from prefetch_tuning.experiments.search.axes import Offer, offer
from prefetch_tuning.experiments.search.correction import Correction, lessons, rates_of
from prefetch_tuning.experiments.search.first_trials import first_trials
from prefetch_tuning.experiments.search.prediction import predict, relative_error
from prefetch_tuning.experiments.settings import StudySettings
from prefetch_tuning.experiments.storage.attributes import (
    MeasuredLimit,
    MeasuredRound,
    Offered,
    PlainData,
    StudyAttributes,
)
from prefetch_tuning.experiments.storage.results import MeasuredConfig, State
from prefetch_tuning.experiments.storage.tracking import Tracker
from prefetch_tuning.experiments.verdict.measurements import RoundMeasurement, is_baseline
from prefetch_tuning.experiments.verdict.same_data import reference
from prefetch_tuning.objectives.measurement import Measurement, PipelineInfo, TrialFailure
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.spec import TrialSpec
from prefetch_tuning.pipelines.chain.blocks import batches_to_check
from prefetch_tuning.pipelines.config import PipelineConfig

# One trial in so many leaves the structure of the chain alone, so that the report can tell what the
# basic axes reach.
PLAIN_EVERY = 4
# A pipeline that hangs does so in its first trial, too, which says so.
READ_ONCE_S = 15.0
# A slow plain chain is compared on the batches that it makes in this time.
READ_PLAIN_S = 6.0
# What a chain makes without the step explains a result and decides nothing: a few rounds will do.
CEILING_ROUNDS = 3
CONSTRAINT = "host_peak_mib_over_limit"
DEVICE_CONSTRAINT = "device_memory"


@dataclass(frozen=True)
class Outcome:
    """One trial as it ended, for the progress display and for the study's record."""

    number: int
    config: PipelineConfig
    state: State
    measured: Measurement | None
    failure: TrialFailure | None


class PipelineStudy:
    """The search over one pipeline's configurations, and the rounds that confirm its best.

    Attributes:
        kept: what is kept of it in Optuna's storage.
        run_id: of the parent run in MLflow.
        measured_s: seconds of measuring in this process; an earlier run's are not counted.
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
        self.study = study
        self.kept = StudyAttributes(study)
        self.info = info
        self.settings = settings
        self.tags = dict(tags)
        self.run_id = ""
        self.measured_s = 0.0
        self._runner = runner
        self._tracker = tracker

    @cached_property
    def offer(self) -> Offer:
        """The axes that are searched; asked for once the diagnosis is there."""
        found = offer(self.info, self.settings, self.kept.diagnosis, self.kept.cores)
        self.kept.offered = Offered(searched=found.space.described, left_out=found.left_out)
        return found

    def begin(self) -> None:
        """Makes the parent run, or takes up the one of an earlier run and clears its leftovers."""
        self.kept.begin(self.info, self.settings, self.tags.get("host", "unknown"))
        earlier = self.kept.run_id
        if earlier is not None and self._tracker.resume_study(earlier):
            self.run_id = earlier
            self._clear_leftovers()
            return
        self.run_id = self._tracker.start_study(self.info.name, self.settings.name, self.tags)
        self.kept.run_id = self.run_id

    def enqueue_predicted(self) -> None:
        """Puts the configurations that the diagnosis predicts to be best ahead of the sampler's."""
        diagnosis = self.kept.diagnosis
        if diagnosis is None:
            return
        space = self.offer.space
        configs = first_trials(diagnosis, space, self.kept.cores)
        if self.study.get_trials(deepcopy=False):
            # A resumed study has had them, but for the one that was cut off.
            configs = self.kept.cut_off
        for config in configs:
            self.study.enqueue_trial(space.params(config), user_attrs={"warm_start": True})

    @property
    def nothing_fits(self) -> bool:
        """Whether the smallest batch size that is searched ran out of the GPU's memory."""
        lacking = self.kept.lacking_device_memory
        return lacking is not None and lacking <= min(self.offer.space.batch_sizes)

    @property
    def has_predicted(self) -> bool:
        """Whether predicted trials are still to be run."""
        return bool(self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))

    def run_trial(self) -> Outcome:
        """Asks for a configuration, measures it, logs the run, and tells Optuna how it ended.

        A trial that fails is recorded as failed and raises nothing. On Ctrl-C the trial is told
        as failed, without a run, and the interrupt goes on.
        """
        self._enqueue_next()
        trial = self.study.ask()
        began = time.time()
        try:
            config = self.offer.space.suggest(trial)
            trial.set_user_attr("config", config.model_dump())
            spec = self._spec(config, self._rival(config))
            result = self._runner.measure(spec)
        except BaseException:
            trial.set_user_attr("state", "interrupted")
            self.study.tell(trial, state=TrialState.FAIL)
            raise
        outcome = self._classify(trial.number, config, result)
        self.measured_s += outcome.measured.measured_s if outcome.measured else 0.0
        tags = {**self.tags, "kind": "trial", "trial_number": str(trial.number)}
        if trial.user_attrs.get("warm_start"):
            tags["warm_start"] = "true"
        name = f"#{trial.number:02d} {config}"
        with uninterrupted():
            run_id = self._tracker.log_trial(
                self.run_id,
                name,
                spec,
                result,
                outcome.state,
                tags,
                began,
                self._predicted(trial, outcome),
            )
            self._tell(trial, outcome, run_id)
        return outcome

    def _enqueue_next(self) -> None:
        """Puts a trial ahead of the sampler's own where there is a reason to."""
        space = self.offer.space
        if self.has_predicted:
            return  # they come first
        corrected = self._corrected()
        if corrected is not None:
            attrs = {"warm_start": True, "corrected": True}
            self.study.enqueue_trial(space.params(corrected), user_attrs=attrs)
        elif space.plain and len(self.kept.finished) % PLAIN_EVERY == PLAIN_EVERY - 1:
            self.study.enqueue_trial(space.plain)  # the rest of the settings is the sampler's

    def _corrected(self) -> PipelineConfig | None:
        """What to try where prediction and trials disagree: the best by what the trials teach.

        None where they agree, or where no configuration is predicted to beat the best trial.
        """
        diagnosis = self.kept.diagnosis
        rows = self.kept.rows
        # The prediction knows nothing of the GPU's memory: it would try one neighbour of a trial
        # that ran out of it after the other.
        space = self.offer.space.below(self.kept.lacking_device_memory)
        seen = rates_of(
            (row.config, row.measured.examples_per_s if row.measured else None) for row in rows
        )
        if diagnosis is None or not seen or space is None:
            return None
        costs, cores = diagnosis.costs, self.kept.cores
        if lessons(costs, cores, seen) <= sum(row.corrected for row in rows):
            return None
        best = self.kept.best
        return Correction(costs, cores, seen).best_untried(
            space,
            tried={row.config for row in rows},
            to_beat=best.examples_per_s if best else 0.0,
        )

    def run_candidate(
        self, name: str, config: PipelineConfig, number: int
    ) -> RoundMeasurement | TrialFailure:
        """Measures a candidate of the confirmation in round `number` and logs it as a run."""
        ceilings = number < CEILING_ROUNDS
        check = {"ceilings": ceilings, "digest_batches": batches_to_check(config)}
        spec = self._spec(config).model_copy(update=check)
        began = time.time()
        result = self._runner.measure(spec)
        failed = isinstance(result, TrialFailure)
        tags = {**self.tags, "kind": "confirmation", "candidate": name, "round": str(number)}
        if is_baseline(name):
            tags["baseline"] = name
        title = f"round {number:02d} {name}: {config}"
        with uninterrupted():
            run_id = self._tracker.log_trial(
                self.run_id, title, spec, result, "failed" if failed else "complete", tags, began
            )
        if isinstance(result, TrialFailure):
            return result
        self.measured_s += result.measured_s
        return RoundMeasurement.of(result, run_id)

    def run_limit(self, batch_size: int, number: int) -> MeasuredLimit | TrialFailure:
        """Measures the terms of the limit in round `number` and logs them as a run."""
        began = time.time()
        result = self._runner.measure_limit(
            self.info.target,
            batch_size,
            self.settings.seed,
            self.settings.device,
            vectorized="vectorized_map" in self.info.axes,
        )
        if isinstance(result, TrialFailure):
            return result
        self.measured_s += result.measured_s
        if not self.info.device.startswith("gpu"):
            # Measured with "auto" on the CPU, beside a GPU that TensorFlow cannot use.
            result = result.model_copy(update={"gpu": None})
        tags = {**self.tags, "kind": "limit", "round": str(number)}
        title = f"round {number:02d} limit: batch {batch_size}"
        with uninterrupted():
            run_id = self._tracker.log_limit(self.run_id, title, batch_size, result, tags, began)
        return MeasuredLimit(terms=result, mlflow_run_id=run_id)

    def mark_throttled(self, kept: MeasuredRound) -> None:
        """Takes what a round measured out of everything that is made of its MLflow runs."""
        for run_id in kept.run_ids:
            self._tracker.mark_throttled(run_id, kept.throttled)

    def read_plain_data(self) -> PlainData:
        """The plain chain's first batches, for as many as any candidate is checked on.

        They are read twice, one time with AUTOTUNE: what users run today is never out for other
        data. The check is off where the two readings differ, or where one fails.
        """
        configs = self.kept.candidates.values()
        size = next(iter(configs)).batch_size
        plain = PipelineConfig.no_prefetch(size).model_copy(update=dict(self.info.own))
        batches = max(batches_to_check(config) for config in configs)
        readings: list[list[str]] = []
        for config in (plain, PipelineConfig.autotune(size, **self.info.own)):
            spec = self._spec(config).model_copy(update={"digest_batches": batches})
            found = self._runner.read_data(spec, READ_PLAIN_S)
            if isinstance(found, TrialFailure):
                return PlainData(why_not=f"the data are not checked: {found.detail}")
            readings.append(found)
        each_batch = reference(*readings)
        if each_batch is None:
            return PlainData(
                why_not=(
                    "the data are not checked: two runs of the plain chain, one of them with "
                    "AUTOTUNE, differ already"
                )
            )
        return PlainData(each_batch=each_batch)

    def _rival(self, config: PipelineConfig) -> MeasuredConfig | None:
        """What a trial is pruned against: the best so far, for a plain chain the best plain one.

        Against the best of all no plain chain would be measured to its end where structure helps,
        and nobody would know how much.
        """
        complete = self.kept.complete
        if self.offer.space.plain and not config.structure:
            complete = [measured for measured in complete if not measured.config.structure]
        return max(complete, key=lambda measured: measured.examples_per_s, default=None)

    def read_once(self) -> None:
        """A measurement that is thrown away, before the first trial: its files come from the disk.

        All later ones find the same files in memory, and would look faster for it.
        """
        size = max(self.offer.space.batch_sizes)
        config = PipelineConfig(batch_size=size, prefetch_buffer=4, map_parallelism=2)
        deadline_s = min(READ_ONCE_S, self.settings.trial_timeout_s)
        self._runner.measure(self._spec(config).model_copy(update={"deadline_s": deadline_s}))

    def _spec(self, config: PipelineConfig, best: MeasuredConfig | None = None) -> TrialSpec:
        """How a configuration is measured; pruned against `best` if that is given."""
        return TrialSpec(
            pipeline=self.info.target,
            config=config,
            seed=self.settings.seed,
            device=self.settings.device,
            stop=self.settings.stop,
            best_examples_per_s=best.examples_per_s if best else None,
            deadline_s=self.settings.trial_timeout_s,
        )

    def _predicted(self, trial: optuna.Trial, outcome: Outcome) -> dict[str, float]:
        """What the diagnosis lets one expect of this trial, and how far off that was."""
        diagnosis = self.kept.diagnosis
        if diagnosis is None:
            return {}
        predicted = predict(diagnosis.costs, outcome.config, self.kept.cores)
        trial.set_user_attr("predicted", predicted)
        metrics = {"prediction/examples_per_s": predicted}
        if outcome.measured is not None:
            error = relative_error(predicted, outcome.measured.examples_per_s)
            metrics["prediction/error"] = error
        return metrics

    def _classify(
        self, number: int, config: PipelineConfig, result: Measurement | TrialFailure
    ) -> Outcome:
        """The one place that decides a trial's state."""
        limit = self.settings.memory_limit_mib
        if isinstance(result, TrialFailure):
            lacking = result.kind == "device_oom"
            return Outcome(number, config, "infeasible" if lacking else "failed", None, result)
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
            if outcome.state == "infeasible":
                # Of how much the GPU lacked nothing is known but that larger batches lack more:
                # where nothing fits yet, the sampler goes for the smallest. TPE looks at the
                # constraints of pruned trials, too, and at nothing of failed ones; a trial that is
                # pruned without a report has no value that a table or plot could show.
                trial.set_constraint(DEVICE_CONSTRAINT, float(outcome.config.batch_size))
                self.study.tell(trial, state=TrialState.PRUNED)
                return
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
        and Optuna does not know is marked, so that each trial and round counts once.
        """
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self.study._storage.set_trial_user_attr(trial._trial_id, "state", "interrupted")
            self.study.tell(trial.number, state=TrialState.FAIL)
        known = self.kept.known_run_ids
        for run in self._tracker.children(self.run_id):
            # A candidate that failed is known to MLflow alone, and so is a rerun.
            ended = run.status == "FAILED" or run.tags.get("kind") == "rerun"
            if run.run_id not in known and not ended:
                self._tracker.mark_interrupted(run.run_id)
