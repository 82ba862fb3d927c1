"""The search of a study: ask -> run the trial -> log -> tell."""

from __future__ import annotations

import time
from dataclasses import dataclass

import optuna
from optuna.trial import TrialState

from prefetch_tuning.experiments.host.interrupts import uninterrupted
from prefetch_tuning.experiments.search.correction import Correction, lessons, rates_of
from prefetch_tuning.experiments.search.first_trials import first_trials
from prefetch_tuning.experiments.search.prediction import predict, relative_error
from prefetch_tuning.experiments.storage.results import MeasuredConfig, State
from prefetch_tuning.experiments.storage.schema import Kind, Tag
from prefetch_tuning.experiments.study.pipeline_study import PipelineStudy
from prefetch_tuning.objectives.measurement import Measurement, TrialFailure
from prefetch_tuning.pipelines.config import PipelineConfig

# One trial in so many leaves the structure of the chain alone, so that the report can tell what the
# basic axes reach.
PLAIN_EVERY = 4
# A pipeline that hangs does so in its first trial, too, which says so.
READ_ONCE_S = 15.0
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


class Search:
    """Runs the trials of a study; all that it knows is the study's."""

    def __init__(self, study: PipelineStudy) -> None:
        self._study = study
        self._kept = study.kept
        self._optuna = study.optuna_study

    def enqueue_predicted(self) -> None:
        """Puts the configurations that the diagnosis predicts to be best ahead of the sampler's."""
        diagnosis = self._kept.diagnosis
        if diagnosis is None:
            return
        space = self._study.offer.space
        configs = first_trials(diagnosis, space, self._kept.cores)
        if self._optuna.get_trials(deepcopy=False):
            # A resumed study has had them, but for the one that was cut off.
            configs = self._kept.cut_off
        for config in configs:
            self._optuna.enqueue_trial(space.params(config), user_attrs={"warm_start": True})

    @property
    def nothing_fits(self) -> bool:
        """Whether the smallest batch size that is searched ran out of the GPU's memory."""
        lacking = self._kept.lacking_device_memory
        return lacking is not None and lacking <= min(self._study.offer.space.batch_sizes)

    @property
    def has_predicted(self) -> bool:
        """Whether predicted trials are still to be run."""
        return bool(self._optuna.get_trials(deepcopy=False, states=(TrialState.WAITING,)))

    def run_trial(self) -> Outcome:
        """Asks for a configuration, measures it, logs the run, and tells Optuna how it ended.

        A trial that fails is recorded as failed and raises nothing. On Ctrl-C the trial is told
        as failed, without a run, and the interrupt goes on.
        """
        self._enqueue_next()
        trial = self._optuna.ask()
        began = time.time()
        try:
            config = self._study.offer.space.suggest(trial)
            trial.set_user_attr("config", config.model_dump())
            spec = self._study.spec(config, self._rival(config))
            result = self._study.runner.measure(spec)
        except BaseException:
            trial.set_user_attr("state", "interrupted")
            self._optuna.tell(trial, state=TrialState.FAIL)
            raise
        outcome = self._classify(trial.number, config, result)
        self._study.measured_s += outcome.measured.measured_s if outcome.measured else 0.0
        tags = {**self._study.tags, Tag.KIND: Kind.TRIAL, Tag.TRIAL_NUMBER: str(trial.number)}
        if trial.user_attrs.get("warm_start"):
            tags[Tag.WARM_START] = "true"
        name = f"#{trial.number:02d} {config}"
        with uninterrupted():
            run_id = self._study.tracker.log_trial(
                self._study.run_id,
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
        space = self._study.offer.space
        if self.has_predicted:
            return  # they come first
        corrected = self._corrected()
        if corrected is not None:
            attrs = {"warm_start": True, "corrected": True}
            self._optuna.enqueue_trial(space.params(corrected), user_attrs=attrs)
        elif space.plain and len(self._kept.finished) % PLAIN_EVERY == PLAIN_EVERY - 1:
            # The rest of the settings is the sampler's.
            self._optuna.enqueue_trial(space.plain)

    def _corrected(self) -> PipelineConfig | None:
        """What to try where prediction and trials disagree: the best by what the trials teach.

        None where they agree, or where no configuration is predicted to beat the best trial.
        """
        diagnosis = self._kept.diagnosis
        rows = self._kept.rows
        # The prediction knows nothing of the GPU's memory: it would try one neighbour of a trial
        # that ran out of it after the other.
        space = self._study.offer.space.below(self._kept.lacking_device_memory)
        seen = rates_of(
            (row.config, row.measured.examples_per_s if row.measured else None) for row in rows
        )
        if diagnosis is None or not seen or space is None:
            return None
        costs, cores = diagnosis.costs, self._kept.cores
        if lessons(costs, cores, seen) <= sum(row.corrected for row in rows):
            return None
        best = self._kept.best
        return Correction(costs, cores, seen).best_untried(
            space,
            tried={row.config for row in rows},
            to_beat=best.examples_per_s if best else 0.0,
        )

    def _rival(self, config: PipelineConfig) -> MeasuredConfig | None:
        """What a trial is pruned against: the best so far, for a plain chain the best plain one.

        Against the best of all no plain chain would be measured to its end where structure helps,
        and nobody would know how much.
        """
        complete = self._kept.complete
        if self._study.offer.space.plain and not config.structure:
            complete = [measured for measured in complete if not measured.config.structure]
        return max(complete, key=lambda measured: measured.examples_per_s, default=None)

    def read_once(self) -> None:
        """A measurement that is thrown away, before the first trial: its files come from the disk.

        All later ones find the same files in memory, and would look faster for it.
        """
        size = max(self._study.offer.space.batch_sizes)
        config = PipelineConfig(batch_size=size, prefetch_buffer=4, map_parallelism=2)
        deadline_s = min(READ_ONCE_S, self._study.settings.trial_timeout_s)
        self._study.runner.measure(
            self._study.spec(config).model_copy(update={"deadline_s": deadline_s})
        )

    def _predicted(self, trial: optuna.Trial, outcome: Outcome) -> dict[str, float]:
        """What the diagnosis lets one expect of this trial, and how far off that was."""
        diagnosis = self._kept.diagnosis
        if diagnosis is None:
            return {}
        predicted = predict(diagnosis.costs, outcome.config, self._kept.cores)
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
        limit = self._study.settings.memory_limit_mib
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
                self._optuna.tell(trial, state=TrialState.PRUNED)
                return
            self._optuna.tell(trial, state=TrialState.FAIL)
            return
        summary = MeasuredConfig.of(outcome.config, measured, run_id)
        trial.set_user_attr("measured", summary.model_dump(mode="json"))
        limit = self._study.settings.memory_limit_mib
        if limit is not None:
            trial.set_constraint(CONSTRAINT, measured.host_peak_mib - limit)
        if outcome.state == "pruned":
            # Optuna takes the last reported value as that of a pruned trial.
            trial.report(measured.examples_per_s, step=len(measured.windows))
            self._optuna.tell(trial, state=TrialState.PRUNED)
            return
        self._optuna.tell(trial, measured.examples_per_s)
