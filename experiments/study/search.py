"""The search of a study: ask for a configuration, run the trial, log it, tell Optuna."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property

import optuna
from optuna.trial import TrialState

from prefetch_tuning.experiments.host.interrupts import uninterrupted
from prefetch_tuning.experiments.search.first_trials import first_trials
from prefetch_tuning.experiments.search.prediction import (
    Predictor,
    Ranking,
    relative_error,
)
from prefetch_tuning.experiments.search.sampler import PredictionSampler
from prefetch_tuning.experiments.search.surrogate import Surrogate, Tried
from prefetch_tuning.experiments.storage.results import MeasuredConfig, State
from prefetch_tuning.experiments.storage.schema import Kind, Tag, TrialAttr
from prefetch_tuning.experiments.study.pipeline_study import PipelineStudy
from prefetch_tuning.experiments.study.work import Call, Piece, asked_again, carry_out
from prefetch_tuning.objectives.measurement import Measurement, TrialFailure
from prefetch_tuning.objectives.objective import Reading
from prefetch_tuning.pipelines.config import PipelineConfig

# One trial in this many keeps the chain plain, so that the report can show what the basic axes
# reach.
PLAIN_EVERY = 8
# A pipeline that hangs will also hang in its first trial, which reports it.
READ_ONCE_S = 15.0
CONSTRAINT = "host_peak_mib_over_limit"
DEVICE_CONSTRAINT = "device_memory"
TARGET_CONSTRAINT = "short_of_target"


@dataclass(frozen=True)
class Outcome:
    """One finished trial, for the progress display and for the study's record."""

    number: int
    config: PipelineConfig
    state: State
    measured: Measurement | None
    failure: TrialFailure | None


class Search:
    """Runs the trials of a study. All state is in the study."""

    def __init__(self, study: PipelineStudy) -> None:
        self._study = study
        self._kept = study.kept
        self._optuna = study.optuna_study
        self._goal = study.settings.goal
        # What other nodes of a cluster measure at the moment.
        self._running: list[PipelineConfig] = []

    def begin(self) -> None:
        """Sets the sampler and, given a diagnosis, queues the best predicted trials."""
        settings, space = self._study.settings, self._study.offer.space
        surrogate = Surrogate(space, self._goal, self._reading, settings.memory_limit_mib)
        # A resumed search considers other random configurations than it did before.
        seed = settings.seed + len(self._kept.finished)
        self._optuna.sampler = PredictionSampler(space, self._goal, surrogate, self._tried, seed)
        diagnosis = self._kept.diagnosis
        if diagnosis is None:
            return
        configs = first_trials(diagnosis, space, self._kept.cores, self._goal)
        if self._optuna.get_trials(deepcopy=False):
            # A resumed study has already run them, except those that an interrupt cut off.
            configs = self._kept.cut_off
        for config in configs:
            self._optuna.enqueue_trial(
                space.params(config), user_attrs={TrialAttr.WARM_START: True}
            )

    @property
    def nothing_fits(self) -> bool:
        """Whether the smallest searched batch size ran out of GPU memory."""
        lacking = self._kept.lacking_device_memory
        return lacking is not None and lacking <= min(self._study.offer.space.batch_sizes)

    @property
    def has_predicted(self) -> bool:
        """Whether predicted trials are still queued."""
        return bool(self._optuna.get_trials(deepcopy=False, states=(TrialState.WAITING,)))

    def run_trial(self) -> Outcome:
        """Runs one trial on this host; see `trial`."""
        return carry_out(self.trial(), self._study.runner)

    def trial(self) -> Piece[Outcome]:
        """Asks for a configuration, measures it, logs the run, and tells Optuna how it ended.

        A trial that fails is recorded as failed and raises nothing. On Ctrl-C, Optuna is told that
        the trial failed, no run is logged, and the interrupt is raised again. A trial whose node is
        lost is measured once more, on another one.
        """
        self._enqueue_next()
        trial = self._optuna.ask()
        began = time.time()
        try:
            config = self._study.offer.space.suggest(trial)
            trial.set_user_attr(TrialAttr.CONFIG, config.model_dump_json())
            spec = self._study.spec(config, self._rival(config))
            self._running.append(config)
            try:
                result = yield from asked_again(Call.measure(spec))
            finally:
                self._running.remove(config)
        except BaseException:
            trial.set_user_attr(TrialAttr.STATE, "interrupted")
            self._optuna.tell(trial, state=TrialState.FAIL)
            raise
        outcome = self._classify(trial.number, config, result)
        self._study.measured_s += outcome.measured.measured_s if outcome.measured else 0.0
        tags = {**self._study.tags, Tag.KIND: Kind.TRIAL, Tag.TRIAL_NUMBER: str(trial.number)}
        if trial.user_attrs.get(TrialAttr.WARM_START):
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
                self._predicted(trial, outcome) | self._study.utilisation(config, result),
            )
            self._tell(trial, outcome, run_id)
        return outcome

    def _enqueue_next(self) -> None:
        """Queues a trial before the sampler's own if there is a reason to."""
        space = self._study.offer.space
        if self.has_predicted:
            return  # the predicted trials come first
        if space.plain and len(self._kept.finished) % PLAIN_EVERY == PLAIN_EVERY - 1:
            # The sampler chooses the other settings.
            self._optuna.enqueue_trial(space.plain)

    def _reading(self, config: PipelineConfig) -> Reading:
        """What is predicted of a configuration; without a diagnosis, the same of all."""
        if self._ranking is not None:
            return self._ranking.reading(config)
        return Reading(config, 1.0, 1.0, self._kept.step_rate(config.batch_size))

    @cached_property
    def _ranking(self) -> Ranking | None:
        diagnosis, cores = self._kept.diagnosis, self._kept.cores
        if diagnosis is None:
            return None
        costs = diagnosis.costs
        return Ranking(self._goal, Predictor(costs, cores).rate, costs, cores)

    def _tried(self) -> list[Tried]:
        """The finished trials, and those that are running elsewhere, as the sampler reads them."""
        finished = [
            Tried(
                row.config,
                self._kept.reading(row.measured) if row.measured else None,
                row.batch_size_lacked_memory,
            )
            for row in self._kept.rows
        ]
        return finished + [Tried(config, None, running=True) for config in self._running]

    def _rival(self, config: PipelineConfig) -> float | None:
        """The rate that a trial is pruned against: the best so far, or the best plain chain's.

        A plain chain is compared with plain chains only. If structure helps, it would otherwise
        always be pruned against the best of all, and nobody would know how much structure gains.
        With a target, a trial that reaches it is never pruned, however fast another one was.
        """
        complete = self._kept.complete
        if self._study.offer.space.plain and not config.structure:
            complete = [measured for measured in complete if not measured.config.structure]
        best = max((measured.examples_per_s for measured in complete), default=None)
        if best is None or self._goal.target is None:
            return best
        return min(best, self._goal.target * self._kept.step_rate(config.batch_size))

    def read_once(self) -> None:
        """Runs a measurement that is discarded, before the first trial.

        Otherwise the first trial would read the files from disk and look slower than the later
        trials, which find them in memory.
        """
        deadline_s = min(READ_ONCE_S, self._study.settings.trial_timeout_s)
        short = {"deadline_s": deadline_s, "stop": self._study.settings.stop}
        result = self._study.runner.measure(self._study.reference.model_copy(update=short))
        if isinstance(result, Measurement):
            self._study.measured_s += result.measured_s

    def _predicted(self, trial: optuna.Trial, outcome: Outcome) -> dict[str, float]:
        """The rate that the diagnosis predicts for this trial, and the error of that prediction."""
        if self._ranking is None:
            return {}
        predicted = self._ranking.reading(outcome.config).examples_per_s
        trial.set_user_attr(TrialAttr.PREDICTED, predicted)
        metrics = {"prediction/examples_per_s": predicted}
        if outcome.measured is not None:
            error = relative_error(predicted, outcome.measured.examples_per_s)
            metrics["prediction/error"] = error
        return metrics

    def _classify(
        self, number: int, config: PipelineConfig, result: Measurement | TrialFailure
    ) -> Outcome:
        """Decides a trial's state. Nothing else does."""
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
        trial.set_user_attr(TrialAttr.STATE, outcome.state)
        trial.set_user_attr(TrialAttr.RUN_ID, run_id)
        measured = outcome.measured
        if measured is None:
            # Its output is an artifact of its run. Optuna would keep it in memory, trial by trial.
            failure = outcome.failure and outcome.failure.model_dump(exclude={"output"})
            trial.set_user_attr(TrialAttr.FAILURE, failure)
            if outcome.state == "infeasible":
                # It isn't known how much memory the GPU lacked, only that larger batches lack more,
                # so the batch size is the constraint. A trial that is pruned without a report has
                # no value to show in a table or plot.
                trial.set_constraint(DEVICE_CONSTRAINT, float(outcome.config.batch_size))
                self._optuna.tell(trial, state=TrialState.PRUNED)
                return
            self._optuna.tell(trial, state=TrialState.FAIL)
            return
        summary = MeasuredConfig.of(outcome.config, measured, run_id)
        kept = summary.model_dump_json(exclude={"config"})  # it is an attribute of its own
        trial.set_user_attr(TrialAttr.MEASURED, kept)
        reading = self._kept.reading(summary)
        value = self._goal.value(reading)
        if self._goal.target is not None:
            trial.set_constraint(TARGET_CONSTRAINT, self._goal.shortfall(reading))
        limit = self._study.settings.memory_limit_mib
        if limit is not None:
            trial.set_constraint(CONSTRAINT, measured.host_peak_mib - limit)
        if outcome.state == "pruned":
            # Optuna uses the last reported value as the value of a pruned trial.
            trial.report(value, step=len(measured.windows))
            self._optuna.tell(trial, state=TrialState.PRUNED)
            return
        self._optuna.tell(trial, value)
