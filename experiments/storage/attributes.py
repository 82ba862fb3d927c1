"""Reads and writes a study's attributes in Optuna's storage; `schema.py` names their keys.

A study can be resumed, confirmed further and reported on from these attributes alone, without
MLflow.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import TypeVar

import optuna
from optuna.trial import FrozenTrial, TrialState
from pydantic import BaseModel, ValidationError

from prefetch_tuning.experiments.errors import StudyError
from prefetch_tuning.experiments.host.environment import package_versions
from prefetch_tuning.experiments.search.diagnosis import Diagnosis
from prefetch_tuning.experiments.search.stage_seconds import step_seconds
from prefetch_tuning.experiments.settings import StudySettings
from prefetch_tuning.experiments.storage.results import (
    MeasuredConfig,
    Offered,
    State,
    Summary,
    TrialCounts,
    TrialRow,
)
from prefetch_tuning.experiments.storage.schema import StudyAttr, TrialAttr
from prefetch_tuning.experiments.verdict.measurements import (
    BEST,
    MeasuredRound,
    PlainData,
    Round,
)
from prefetch_tuning.objectives.measurement import LimitTerms, PipelineInfo, TrialFailure
from prefetch_tuning.objectives.objective import Reading
from prefetch_tuning.objectives.spec import StopRule
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.config import PipelineConfig, one_line
from prefetch_tuning.pipelines.cores import usable_cores
from prefetch_tuning.pipelines.printable import printable_json
from prefetch_tuning.pipelines.target import Target

Candidates = dict[str, PipelineConfig]
# Of a stored text. The spec of an element with many features is code, which must not be cut.
LONGEST = 1_000_000
# The search gives up if this many trials ended and all failed.
FAILURES = 3


M = TypeVar("M", bound=BaseModel)


class StudyAttributes:
    """Reads and writes the attributes of one study and its trials."""

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
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
        info = _read(PipelineInfo, self._study.user_attrs[StudyAttr.INFO])
        version = self.versions.get("prefetch-tuning", "0.1.0")  # 0.1.0 stored none at first
        return info.model_copy(update={"target": catalog.renamed(info.target, version)})

    @property
    def settings(self) -> StudySettings:
        """Settings of the latest run."""
        return _read(StudySettings, self._study.user_attrs[StudyAttr.SETTINGS])

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
        return None if kept is None else _read(Summary, kept)

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
        return None if kept is None else _read(Diagnosis, kept)

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
        return None if kept is None else _read(Offered, kept)

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
            self._parsed[trial.number] = _row(trial)
        return self._parsed[trial.number]

    @property
    def cut_off(self) -> list[PipelineConfig]:
        """Predicted first trials that an interrupt cut off and that no trial has repeated since."""
        trials = self._study.get_trials(deepcopy=False)
        lost = {
            _read(PipelineConfig, t.user_attrs[TrialAttr.CONFIG]): t.params
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

    # ---- confirmation

    @property
    def candidates(self) -> Candidates:
        """Candidates of the latest confirmation; empty before the first one."""
        kept = self._study.user_attrs.get(f"{StudyAttr.CONFIRMATION}{self._latest}", {})
        return {name: _read(PipelineConfig, config) for name, config in kept.items()}

    def nominate(self, candidates: Candidates) -> None:
        """Begins a new confirmation unless the latest one has exactly these candidates."""
        if candidates != self.candidates:
            kept = {name: config.model_dump() for name, config in candidates.items()}
            self._study.set_user_attr(f"{StudyAttr.CONFIRMATION}{self._latest + 1}", kept)

    @property
    def rounds(self) -> list[Round]:
        """Each candidate's measurements in the latest confirmation's whole rounds, in order."""
        return [kept.measured for kept in self._kept_rounds]

    @property
    def limits(self) -> list[LimitTerms | None]:
        """The limit's terms in those rounds; None for a round that didn't measure them."""
        return [kept.limit.terms if kept.limit else None for kept in self._kept_rounds]

    @property
    def rounds_s(self) -> float:
        """Total duration of those rounds in seconds."""
        return sum(kept.seconds for kept in self._kept_rounds)

    def add_round(self, kept: MeasuredRound) -> None:
        """Stores a whole round. An interrupted round isn't stored, so it is measured again."""
        key = f"{StudyAttr.ROUND}{self._latest}/{len(self._kept_rounds):04d}"
        self._study.set_user_attr(key, kept.model_dump(mode="json"))

    @property
    def data(self) -> PlainData | None:
        """The plain chain's batches in the latest confirmation; None before they were read."""
        kept = self._study.user_attrs.get(f"{StudyAttr.DATA}{self._latest}")
        return None if kept is None else _read(PlainData, kept)

    @data.setter
    def data(self, data: PlainData) -> None:
        self._study.set_user_attr(f"{StudyAttr.DATA}{self._latest}", data.model_dump(mode="json"))

    @property
    def other_data(self) -> list[str]:
        """Candidates of the latest confirmation whose data differs from the plain chain's."""
        return list(self._study.user_attrs.get(f"{StudyAttr.OTHER_DATA}{self._latest}", []))

    def mark_other_data(self, candidate: str) -> None:
        """Excludes a candidate from the latest confirmation."""
        found = [*self.other_data, candidate]
        self._study.set_user_attr(f"{StudyAttr.OTHER_DATA}{self._latest}", found)

    @property
    def excluded_with_best(self) -> list[PipelineConfig]:
        """Candidates excluded for their data, of those confirmations that excluded the best one."""
        attrs, found = self._study.user_attrs, []
        for number in range(1, self._latest + 1):
            names = attrs.get(f"{StudyAttr.OTHER_DATA}{number}", [])
            configs = attrs[f"{StudyAttr.CONFIRMATION}{number}"]
            found += [_read(PipelineConfig, configs[name]) for name in names if BEST in names]
        return found

    def take_back_other_data(self) -> None:
        """Readmits what `mark_other_data` excluded, also from earlier confirmations."""
        for number in range(1, self._latest + 1):
            self._study.set_user_attr(f"{StudyAttr.OTHER_DATA}{number}", [])

    @property
    def known_run_ids(self) -> set[str | None]:
        """MLflow run ids of all trials and whole rounds, including earlier confirmations."""
        known = {t.user_attrs.get(TrialAttr.RUN_ID) for t in self._study.get_trials(deepcopy=False)}
        for key, kept in self._study.user_attrs.items():
            if key.startswith(StudyAttr.ROUND):
                known.update(m["mlflow_run_id"] for m in kept["measured"].values())
                known.add((kept.get("limit") or {}).get("mlflow_run_id"))
        return known

    @property
    def _latest(self) -> int:
        numbers = [key for key in self._study.user_attrs if key.startswith(StudyAttr.CONFIRMATION)]
        return len(numbers)

    @property
    def _kept_rounds(self) -> list[MeasuredRound]:
        attrs = self._study.user_attrs
        prefix = f"{StudyAttr.ROUND}{self._latest}/"
        kept = [attrs[key] for key in sorted(attrs) if key.startswith(prefix)]
        return [_read(MeasuredRound, found) for found in kept]


def state_of(trial: FrozenTrial) -> State:
    """The final state of a trial, in this project's terms."""
    state: State = trial.user_attrs.get(TrialAttr.STATE, "interrupted")
    return state


def all_failed(finished: Iterable[FrozenTrial]) -> str | None:
    """The first failure in one line if at least `FAILURES` trials ended and all failed."""
    trials = list(finished)
    if len(trials) < FAILURES or any(t.state is not TrialState.FAIL for t in trials):
        return None
    failure = trials[0].user_attrs.get(TrialAttr.FAILURE) or {}
    return f"{failure.get('kind')}: {failure.get('detail')}"


def _row(trial: FrozenTrial) -> TrialRow:
    attrs = trial.user_attrs
    measured, failure = attrs.get(TrialAttr.MEASURED), attrs.get(TrialAttr.FAILURE)
    config = _lean(_read(PipelineConfig, attrs[TrialAttr.CONFIG]))
    row = TrialRow(
        number=trial.number,
        config=config,
        state=state_of(trial),
        measured=None
        if measured is None
        else _lean(_read(MeasuredConfig, measured, config=config)),
        failure=None if failure is None else _read(TrialFailure, failure),
        predicted_examples_per_s=attrs.get(TrialAttr.PREDICTED),
        warm_start=bool(attrs.get(TrialAttr.WARM_START, False)),
    )
    return _lean(row)


def _lean(model: M) -> M:
    """The same model; the names of its fields, which take most of its memory, are shared."""
    return model.model_construct(_fields_set=_field_names(type(model)), **dict(model))


@cache
def _field_names(model: type[BaseModel]) -> set[str]:
    return set(model.model_fields)


def _read(model: type[M], kept: object, **more: object) -> M:
    """Rebuilds a model from its stored form and what isn't stored with it.

    Raises:
        StudyError: another version stored it in a form that this version doesn't accept.
    """
    try:
        # As a text, an attribute takes a fifth of the memory in Optuna's cache of the trials.
        found = printable_json(json.loads(kept) if isinstance(kept, str) else kept, LONGEST)
        return model.model_validate({**found, **more} if more else found)
    except ValueError as error:
        reason = one_line(error) if isinstance(error, ValidationError) else str(error)
        raise StudyError(
            f"this study was made by another version of prefetch-tuning: {reason}; "
            "tune again with a new --study name"
        ) from None
