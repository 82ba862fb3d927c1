"""Reads and writes a study's attributes in Optuna's storage; `schema.py` names their keys.

A study can be resumed, confirmed further and reported on from these attributes alone, without
MLflow.
"""

from __future__ import annotations

import math
from collections import Counter

import optuna
from optuna.trial import FrozenTrial, TrialState

from prefetch_tuning.experiments.host.environment import package_versions
from prefetch_tuning.experiments.search.diagnosis import Diagnosis
from prefetch_tuning.experiments.search.stage_seconds import step_seconds
from prefetch_tuning.experiments.settings import StudySettings
from prefetch_tuning.experiments.storage.confirmation import ConfirmationAttributes
from prefetch_tuning.experiments.storage.results import (
    MeasuredConfig,
    Offered,
    Summary,
    TrialCounts,
    TrialRow,
)
from prefetch_tuning.experiments.storage.schema import StudyAttr, TrialAttr
from prefetch_tuning.experiments.storage.stored import read_stored
from prefetch_tuning.experiments.storage.trial_rows import row_of, state_of
from prefetch_tuning.objectives.objective import Reading
from prefetch_tuning.objectives.pipeline_info import PipelineInfo
from prefetch_tuning.objectives.spec import StopRule
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.cores import usable_cores
from prefetch_tuning.pipelines.target import Target


class StudyAttributes(ConfirmationAttributes):
    """Reads and writes the attributes of one study and its trials."""

    def __init__(self, study: optuna.Study) -> None:
        super().__init__(study)
        # What never changes is parsed once: a search reads all trials before each further one.
        self._parsed: dict[int, TrialRow] = {}
        self._step_rates: dict[int, float] = {}

    # ---- the study

    @property
    def run_id(self) -> str | None:
        """Run id of the parent run in MLflow."""
        return self._study.user_attrs.get(StudyAttr.RUN_ID)

    @run_id.setter
    def run_id(self, run_id: str) -> None:
        self._study.set_user_attr(StudyAttr.RUN_ID, run_id)

    @property
    def info(self) -> PipelineInfo:
        info = read_stored(PipelineInfo, self._study.user_attrs[StudyAttr.INFO])
        version = self.versions.get("prefetch-tuning", "0.1.0")  # 0.1.0 stored none at first
        return info.model_copy(update={"target": catalog.renamed(info.target, version)})

    @property
    def settings(self) -> StudySettings:
        """Settings of the latest run."""
        return read_stored(StudySettings, self._study.user_attrs[StudyAttr.SETTINGS])

    def begin(self, info: PipelineInfo, settings: StudySettings, host: str, cores: float) -> None:
        """Stores what a later command needs to continue the study without being told again."""
        self._study.set_user_attr(StudyAttr.INFO, info.model_dump(mode="json"))
        self._study.set_user_attr(StudyAttr.SETTINGS, settings.model_dump(mode="json"))
        self._study.set_user_attr(StudyAttr.HOST, host)
        self._study.set_user_attr(StudyAttr.CORES, cores)
        self._study.set_user_attr(StudyAttr.VERSIONS, package_versions())

    @property
    def cores(self) -> float:
        """Cores that a trial could use on the machine that measured it."""
        return float(self._study.user_attrs.get(StudyAttr.CORES, usable_cores()))

    @property
    def reference_rate(self) -> float | None:
        """Examples/s of the reference on a cluster's first node; None without a cluster."""
        kept: float | None = self._study.user_attrs.get(StudyAttr.REFERENCE_RATE)
        return kept

    @reference_rate.setter
    def reference_rate(self, rate: float) -> None:
        self._study.set_user_attr(StudyAttr.REFERENCE_RATE, rate)

    @property
    def versions(self) -> dict[str, str]:
        """Versions of Python and the main libraries at measurement; empty if not stored."""
        return dict(self._study.user_attrs.get(StudyAttr.VERSIONS, {}))

    @property
    def host(self) -> str:
        """Description of the machine that measured."""
        return str(self._study.user_attrs.get(StudyAttr.HOST, "unknown"))

    @property
    def is_ours(self) -> bool:
        """False for a study in the same storage that another program created."""
        return StudyAttr.INFO in self._study.user_attrs

    @property
    def spent(self) -> tuple[float, float]:
        """Seconds of measuring per host, and wall time in seconds, both of the latest run."""
        measured_s, wall_s = self._study.user_attrs.get(StudyAttr.SPENT, (0.0, 0.0))
        return measured_s, wall_s

    @spent.setter
    def spent(self, seconds: tuple[float, float]) -> None:
        self._study.set_user_attr(StudyAttr.SPENT, list(seconds))

    @property
    def summary(self) -> Summary | None:
        """The study in one line; None if no run of it has ended since summaries are stored."""
        kept = self._study.user_attrs.get(StudyAttr.SUMMARY)
        return None if kept is None else read_stored(Summary, kept)

    @summary.setter
    def summary(self, summary: Summary) -> None:
        self._study.set_user_attr(StudyAttr.SUMMARY, summary.model_dump(mode="json"))

    @property
    def server_mib(self) -> float | None:
        """Memory of a process that has imported TensorFlow; None if not stored."""
        kept: float | None = self._study.user_attrs.get(StudyAttr.SERVER_MIB)
        return kept

    @server_mib.setter
    def server_mib(self, mib: float | None) -> None:
        self._study.set_user_attr(StudyAttr.SERVER_MIB, mib)

    @property
    def diagnosis(self) -> Diagnosis | None:
        kept = self._study.user_attrs.get(StudyAttr.DIAGNOSIS)
        return None if kept is None else read_stored(Diagnosis, kept)

    @diagnosis.setter
    def diagnosis(self, diagnosis: Diagnosis) -> None:
        self._step_rates.clear()
        self._study.set_user_attr(
            StudyAttr.DIAGNOSIS, diagnosis.model_dump(mode="json", by_alias=True)
        )

    def stop_rule(self, batch_size: int) -> StopRule:
        """How long a trial lasts: longer than set if the generator's pauses are far apart."""
        diagnosis, rule = self.diagnosis, self.settings.stop
        if diagnosis is None or diagnosis.pauses is None or diagnosis.bottleneck != "pauses":
            return rule
        return diagnosis.pauses.stop_rule(rule, batch_size)

    @property
    def offered(self) -> Offered | None:
        """The axes as they were when the search began; None if the study stored none."""
        kept = self._study.user_attrs.get(StudyAttr.OFFERED)
        return None if kept is None else read_stored(Offered, kept)

    @offered.setter
    def offered(self, offered: Offered) -> None:
        self._study.set_user_attr(StudyAttr.OFFERED, offered.model_dump(mode="json"))

    # ---- trials

    @property
    def finished(self) -> list[FrozenTrial]:
        """Trials that ended on their own. Interrupted trials are ignored."""
        trials = self._study.get_trials(deepcopy=False)
        return [t for t in trials if t.state.is_finished() and state_of(t) != "interrupted"]

    @property
    def rows(self) -> list[TrialRow]:
        """The finished trials as rows of a report."""
        return [self._row(trial) for trial in self.finished]

    def _row(self, trial: FrozenTrial) -> TrialRow:
        if trial.number not in self._parsed:
            self._parsed[trial.number] = row_of(trial)
        return self._parsed[trial.number]

    @property
    def cut_off(self) -> list[PipelineConfig]:
        """Predicted first trials that an interrupt cut off and that no trial has repeated since."""
        trials = self._study.get_trials(deepcopy=False)
        lost = {
            read_stored(PipelineConfig, t.user_attrs[TrialAttr.CONFIG]): t.params
            for t in trials
            if t.state.is_finished()
            and state_of(t) == "interrupted"
            and t.user_attrs.get(TrialAttr.WARM_START)
            and TrialAttr.CONFIG in t.user_attrs
        }
        had = {row.config for row in self.rows}
        waiting = [
            t.system_attrs.get("fixed_params") for t in trials if t.state is TrialState.WAITING
        ]
        return [c for c, params in lost.items() if c not in had and params not in waiting]

    @property
    def lacking_device_memory(self) -> int | None:
        """The smallest batch size that ran out of GPU memory; None if no trial did.

        A batch size that was measured fits.
        """
        rows = self.rows
        fits = max((row.config.batch_size for row in rows if row.measured), default=0)
        lacked = [row.config.batch_size for row in rows if row.batch_size_lacked_memory]
        return min((size for size in lacked if size > fits), default=None)

    @property
    def complete(self) -> list[MeasuredConfig]:
        """Feasible trials that were measured in full."""
        return [row.measured for row in self.rows if row.state == "complete" and row.measured]

    @property
    def best(self) -> MeasuredConfig | None:
        """The best complete trial by the study's objective; None before the first one."""
        goal = self.settings.goal
        return min(self.complete, key=lambda m: goal.order(self.reading(m)), default=None)

    def reading(self, measured: MeasuredConfig) -> Reading:
        """What the study's objective judges."""
        return measured.reading(self.step_rate(measured.config.batch_size))

    def shown(self, measured: MeasuredConfig) -> str:
        """What a trial reached, in a few words of the study's objective."""
        return self.settings.goal.shown(self.reading(measured))

    @property
    def confirmed_step_rate(self) -> float:
        """The same at the confirmation's batch size; NaN before there is one."""
        config = next(iter(self.candidates.values()), None)
        return math.nan if config is None else self.step_rate(config.batch_size)

    def step_rate(self, batch_size: int) -> float:
        """Examples/s of the training step alone; NaN if its time isn't known."""
        if batch_size not in self._step_rates:
            emulated, diagnosis = Target.parse(self.info.target).step, self.diagnosis
            if emulated is not None:
                self._step_rates[batch_size] = batch_size / emulated.seconds(batch_size)
            elif diagnosis is not None:
                step_s = step_seconds(diagnosis.costs, batch_size)
                self._step_rates[batch_size] = batch_size / step_s
            else:
                self._step_rates[batch_size] = math.nan
        return self._step_rates[batch_size]

    @property
    def counts(self) -> TrialCounts:
        """Number of trials per final state."""
        states = Counter[str](state_of(trial) for trial in self.finished)
        return TrialCounts(**{state: states[state] for state in TrialCounts.model_fields})

    # ---- runs

    @property
    def known_run_ids(self) -> set[str | None]:
        """MLflow run ids of all trials and whole rounds, including earlier confirmations."""
        known = {t.user_attrs.get(TrialAttr.RUN_ID) for t in self._study.get_trials(deepcopy=False)}
        for key, kept in self._study.user_attrs.items():
            if key.startswith(StudyAttr.ROUND):
                known.update(m["mlflow_run_id"] for m in kept["measured"].values())
                known.add((kept.get("limit") or {}).get("mlflow_run_id"))
        return known
